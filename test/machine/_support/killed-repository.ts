// One repository whose commands are killed again and again, and what must hold meanwhile: every snapshot that came into the store holds exactly
// what its source held, as find and sha256sum see it; one that was reported stays until a schedule lets it go; the next backup succeeds.
import { mkdirSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { openStore, storeConfigFromEnv } from '@holdfast/shared/store/location.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import type { S3Server } from '../../../demo/s3-server.ts'
import { eventsOf, only, Workplace } from '../../agent/cli/_support/cli.ts'
import { seededNumbers } from '../../_support/awkward-tree.ts'
import { compareManifests, type ManifestEntry, treeManifest } from '../../_support/tree-manifest.ts'
import { type Killed, killAtMoment, type Pace } from './kill-moment.ts'
import { readIndependently } from './independent-reader.ts'

type Manifest = ReadonlyMap<string, ManifestEntry>

/** A command that is killed. To kill another, add it to VICTIMS. */
export type Victim = {
  readonly name: string
  /** How often it is chosen, against the others. */
  readonly weight: number
  readonly args: (at: KilledRepository) => readonly string[]
  readonly env?: Record<string, string | undefined>
  /** Exit codes with which it may end where nobody kills it; only 0 where none are given. */
  readonly codes?: readonly number[]
  /** Where it works, beside the repository and the state directory. */
  readonly target?: (at: KilledRepository) => string
  /** What to do before it is started. */
  readonly before?: (at: KilledRepository) => void
  /** What to do once it was killed. */
  readonly after?: (at: KilledRepository) => Promise<void>
}

/** For repositories that know no code yet. */
const WITH_PASSPHRASE = { HOLDFAST_RECOVERY_CODE: undefined, HOLDFAST_PASSWORD: 'correct horse' }

export const VICTIMS: readonly Victim[] = [
  { name: 'backup', weight: 12, args: (at) => at.backup },
  {
    name: 'restore',
    weight: 3,
    args: (at) => ['restore', at.someSnapshot(), '--target', at.target],
    target: (at) => at.target,
    after: (at) => at.finishRestore(),
  },
  { name: 'forget', weight: 2, args: (at) => ['forget', ...at.chooseToForget()] },
  // A window of one day, which passes in each rest: what it condemns is deleted by a later one.
  { name: 'prune', weight: 4, args: () => ['prune', '--window', '1'] },
  // What is gone already cannot be taken back, and that is said.
  { name: 'undelete', weight: 1, args: () => ['undelete', '--all'], codes: [0, 1, 4] },
  { name: 'repair', weight: 2, args: () => ['repair'], before: (at) => at.loseIndexFile(), after: (at) => at.finishRepair() },
  { name: 'drill', weight: 1, args: () => ['drill'] },
  { name: 'check', weight: 1, args: () => ['check', '--read-data'] },
  {
    name: 'init',
    weight: 1,
    args: (at) => ['init', '--repo', at.otherRepository],
    env: WITH_PASSPHRASE,
    target: (at) => at.otherRepository,
    after: (at) => at.finishInit(),
  },
]

export type Ended = { readonly exitCode: number | null; readonly code: string | undefined; readonly said: string }

const KIB = 1024

export class KilledRepository {
  readonly work: Workplace
  readonly seed: string
  readonly source: string
  readonly state: string
  readonly store: Store
  /** How each command went when nobody killed it. */
  readonly #paces = new Map<string, Pace>()
  /** What every snapshot must hold, by its id, in the order in which they came. */
  readonly #holds = new Map<string, Manifest>()
  readonly #reported = new Set<string>()
  /** Snapshots that somebody asked to forget: they may be there or not. */
  readonly #askedToGo = new Set<string>()
  readonly next: () => number
  readonly #isLocal: boolean
  #recoveryCode = ''
  #manifest: Manifest = new Map()
  #restoring: string | undefined
  #others = 0
  #targets = 0
  /** How often each command was killed. */
  readonly kills = new Map<string, number>()

  private constructor(work: Workplace, store: Store, seed: string, number: number, isLocal: boolean) {
    this.work = work
    this.store = store
    this.seed = seed
    this.source = work.path('source')
    this.state = work.path('state')
    this.next = seededNumbers(number)
    this.#isLocal = isLocal
  }

  static async inDirectory(seed: string, number: number, work: Workplace = new Workplace()): Promise<KilledRepository> {
    mkdirSync(work.repo, { recursive: true })
    const store = await openStore(work.repo, {}, { clock: systemClock, random: systemRandom, create: true })
    const at = new KilledRepository(work, store, seed, number, true)
    await at.#begin([])
    return at
  }

  /** In a bucket of its own that keeps no versions, below `prefix`. */
  static async inS3(s3: S3Server, bucket: string, seed: string, number: number): Promise<KilledRepository> {
    await s3.createBucket(bucket)
    const work = new Workplace()
    const access = { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey }
    const location = `s3:${s3.endpoint}/${bucket}/one`
    work.env = { ...work.env, ...access, HOLDFAST_REPO: location }
    const store = await openStore(location, storeConfigFromEnv(access), { clock: systemClock, random: systemRandom, create: false })
    const at = new KilledRepository(work, store, seed, number, false)
    await at.#begin(['--accept-overwrite'])
    return at
  }

  get backup(): readonly string[] {
    return ['backup', this.source, '--state', this.state]
  }

  get target(): string {
    return this.work.path('targets', `${this.#targets}`)
  }

  get otherRepository(): string {
    return this.work.path(`other-${this.#others}`)
  }

  someSnapshot(): string {
    const ids = this.#kept()
    this.#restoring ??= ids[this.next() % ids.length]!
    return this.#restoring
  }

  /** Snapshots that must be there, oldest first. */
  #kept(): string[] {
    return [...this.#reported].filter((id) => !this.#askedToGo.has(id))
  }

  /** The oldest snapshots but for a few, by their ids; or a rule that lets none go where there are but few. */
  chooseToForget(): string[] {
    const old = this.#kept()
      .filter((id) => id !== this.#restoring)
      .slice(0, -3)
    const chosen = old.slice(0, 1 + (this.next() % 3))
    for (const id of chosen) this.#askedToGo.add(id)
    return chosen.length > 0 ? chosen : ['--keep-last', '1000']
  }

  /** Takes an index file away, which packs' footers can replace. */
  loseIndexFile(): void {
    if (!this.#isLocal) return
    const names = readdirSync(join(this.work.repo, 'index'))
    if (names.length > 0) rmSync(join(this.work.repo, 'index', names[this.next() % names.length]!))
  }

  async finishRepair(): Promise<void> {
    const { summary, events } = await this.work.json(['repair'])
    expect(summary, `a repair after kills, seed ${this.seed}: ${JSON.stringify(events)}`).toMatchObject({ exitCode: 0 })
  }

  /** Lets nine days pass in the store: longer than a window and than a session may be silent. A directory's clock are the times of its files. */
  #age(): void {
    if (!this.#isLocal) return
    for (const entry of readdirSync(this.work.repo, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      const path = join(entry.parentPath, entry.name)
      const seconds = statSync(path).mtimeMs / 1000 - 9 * 86_400
      utimesSync(path, seconds, seconds)
    }
  }

  async close(): Promise<void> {
    await this.store.close()
    this.work.close()
  }

  async #begin(flags: readonly string[]): Promise<void> {
    const { events, summary } = await this.work.json(['init', ...flags])
    expect(summary.exitCode).toBe(0)
    this.#recoveryCode = only(events, 'recovery-code')[0]?.code ?? ''
    // A code opens in no time, where a passphrase takes as long as the rest of a small run.
    const { HOLDFAST_PASSWORD: _, ...others } = this.work.env
    this.work.env = { ...others, HOLDFAST_RECOVERY_CODE: this.#recoveryCode }
    mkdirSync(join(this.source, 'small'), { recursive: true })
    for (let i = 0; i < 40; i++) this.#write(`small/file-${i}`, this.next() % (30 * KIB))
    for (let i = 0; i < 4; i++) this.#write(`large-${i}`, 1500 * KIB + (this.next() % (1500 * KIB)))
    this.#manifest = await treeManifest(this.source)
    await this.rest()
  }

  #write(name: string, bytes: number): void {
    const content = Buffer.alloc(bytes)
    for (let at = 0; at + 4 <= bytes; at += 4) content.writeUInt32LE(this.next(), at)
    writeFileSync(join(this.source, name), content)
  }

  /** New content, files that come and go: something for the next backup to do. */
  async change(): Promise<void> {
    const { next } = this
    for (let i = next() % 3; i >= 0; i--) this.#write(`large-${next() % 6}`, next() % (3000 * KIB))
    for (let i = next() % 12; i >= 0; i--) {
      const name = `small/file-${next() % 60}`
      if (next() % 5 === 0) rmSync(join(this.source, name), { force: true })
      else this.#write(name, next() % (40 * KIB))
    }
    this.#manifest = await treeManifest(this.source)
  }

  /** Kills one command once; one that ended before its moment is no kill. */
  async kill(victims: readonly Victim[]): Promise<boolean> {
    const victim = this.#choose(victims)
    if (this.next() % 2 === 0) await this.change()
    victim.before?.(this)
    const pace = this.#paces.get(victim.name) ?? { changes: 8, untilFirstMs: 500, afterFirstMs: 400 }
    this.#paces.set(victim.name, pace)
    const child = this.work.start([...victim.args(this), '--json'], { env: victim.env ?? {} })
    const killed = await killAtMoment(child, this.#watched(victim), pace, this.next)
    await this.#look(victim, killed)
    if (killed.killed) this.kills.set(victim.name, (this.kills.get(victim.name) ?? 0) + 1)
    await victim.after?.(this)
    return killed.killed
  }

  /** Runs one command under a fault of the test's making, which is named; gives its end, once what it left was looked at. */
  async run(victim: Victim, fault: string, codes: readonly number[]): Promise<Ended> {
    victim.before?.(this)
    this.#watched(victim)
    const args = victim.args(this)
    const { code, text, stderr } = await this.work.run([...args, '--json'], { env: victim.env ?? {} })
    await this.#look({ ...victim, codes }, { code, killed: false, stdout: text, stderr, moment: '' }, fault)
    const events = eventsOf(text)
    const summary = only(events, 'summary')[0]
    return {
      exitCode: code,
      code: summary?.code,
      said: JSON.stringify(events.filter(({ event }) => event === 'error' || event === 'problem')),
    }
  }

  #choose(victims: readonly Victim[]): Victim {
    let at = this.next() % victims.reduce((sum, { weight }) => sum + weight, 0)
    for (const victim of victims) if ((at -= victim.weight) < 0) return victim
    return victims[0]!
  }

  /** The directories in which it works; its target is made. */
  #watched(victim: Victim): string[] {
    const target = victim.target?.(this)
    if (target !== undefined) mkdirSync(target, { recursive: true })
    const repository = this.#isLocal
      ? ['tmp', 'packs', 'index', 'snapshots', 'sessions', 'lists', 'lists/forgets'].map((name) => join(this.work.repo, name))
      : []
    return target === undefined ? [this.state, join(this.state, 'spool'), ...repository] : [target]
  }

  /** Takes note of what a command left: each new snapshot must hold what the source holds now. */
  async #look(victim: Victim, { code, killed, stdout, stderr, moment }: Killed, fault = 'not killed'): Promise<void> {
    const what = `${victim.name}, ${killed ? `killed ${moment}` : fault}, seed ${this.seed}`
    if (!killed) expect(victim.codes ?? [0], `${what}: ${stdout}${stderr}`).toContain(code)
    const listed = await this.#listed()
    for (const id of listed) if (!this.#holds.has(id)) this.#holds.set(id, this.#manifest)
    const whole = stdout.slice(0, stdout.lastIndexOf('\n') + 1)
    for (const { snapshotId, exitCode } of only(eventsOf(whole), 'summary'))
      if (snapshotId !== undefined && exitCode === 0) this.#reported.add(snapshotId)
    for (const id of this.#reported) {
      if (listed.has(id)) continue
      expect(this.#askedToGo.has(id), `${what}: snapshot ${id}, which was reported good, is gone`).toBe(true)
      this.#reported.delete(id)
    }
  }

  async #listed(): Promise<Set<string>> {
    const found = new Set<string>()
    for await (const page of this.store.list('snapshots/')) for (const { name } of page) found.add(name.slice(-32))
    return found
  }

  /** One backup that nobody kills, a whole check, and one snapshot of those so far compared with what it must hold. */
  async rest(): Promise<void> {
    const last = await this.work.json(this.backup)
    expect(last.summary, `the backup after kills, seed ${this.seed}: ${JSON.stringify(last.events)}`).toMatchObject({
      exitCode: 0,
      result: expect.stringMatching(/^(?:done|unchanged)$/),
      counts: { problems: 0 },
    })
    const id = last.summary.snapshotId
    if (id !== undefined) {
      this.#holds.set(id, this.#manifest)
      this.#reported.add(id)
    }
    const check = await this.work.json(['check', '--read-data'])
    expect(check.summary, `the check after kills, seed ${this.seed}: ${JSON.stringify(check.events)}`).toMatchObject({ exitCode: 0 })
    const ids = this.#kept()
    await this.#compare(ids[this.next() % ids.length]!)
    if (this.next() % 2 === 0) this.#age()
  }

  /** Every snapshot that counts, compared; returns how many those are. */
  async compareAll(): Promise<number> {
    const { events } = await this.work.json(['snapshots'])
    const counted = new Set(only(events, 'snapshot').map(({ id }) => id))
    expect(
      this.#kept().filter((id) => !counted.has(id)),
      `reported good and not listed, seed ${this.seed}`,
    ).toEqual([])
    for (const id of counted) await this.#compare(id)
    return counted.size
  }

  async #compare(id: string): Promise<void> {
    const target = this.work.path('compared')
    rmSync(target, { recursive: true, force: true })
    mkdirSync(target)
    // The product and the reader that shares no code with it in turn.
    if (this.#isLocal && this.next() % 2 === 0) await readIndependently(this.work.repo, id, this.#recoveryCode, target)
    else {
      const { summary, events } = await this.work.json(['restore', id, '--target', target])
      expect(summary, JSON.stringify(events)).toMatchObject({ exitCode: 0 })
    }
    await this.#requireSame(id, join(target, this.source))
  }

  async #requireSame(id: string, restored: string): Promise<void> {
    const differences = compareManifests(this.#holds.get(id) ?? new Map(), await treeManifest(restored))
    expect(differences, `snapshot ${id}, ${this.#reported.has(id) ? 'reported' : 'not reported'}, seed ${this.seed}`).toEqual([])
  }

  /** Completes a restore that was killed, in about every second case: otherwise it is killed once more. */
  async finishRestore(): Promise<void> {
    const id = this.someSnapshot()
    if (this.next() % 2 === 0) return
    const { summary, events } = await this.work.json(['restore', id, '--target', this.target])
    expect(summary, JSON.stringify(events)).toMatchObject({ exitCode: 0 })
    await this.#requireSame(id, join(this.target, this.source))
    rmSync(this.target, { recursive: true })
    this.#targets += 1
    this.#restoring = undefined
  }

  /** What a killed `init` left is a repository that works, or a place where `init` says what to do; never a repository that does not open. */
  async finishInit(): Promise<void> {
    const repo = ['--repo', this.otherRepository]
    const env = WITH_PASSPHRASE
    const again = await this.work.json(['init', ...repo], { env })
    if (again.summary.exitCode === 0 || readdirSync(this.otherRepository).includes('repository')) {
      const state = this.work.path(`other-state-${this.#others}`)
      const { summary, events } = await this.work.json(['backup', join(this.source, 'small'), ...repo, '--state', state], { env })
      expect(summary, JSON.stringify(events)).toMatchObject({ exitCode: 0 })
      rmSync(state, { recursive: true })
    } else expect(again.summary).toMatchObject({ exitCode: 1, code: 'already-exists' })
    rmSync(this.otherRepository, { recursive: true })
    this.#others += 1
  }
}

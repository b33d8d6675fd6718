// Everything that backup programs are known to lose comes back through the real commands: by the directory store and a real S3 server, by `restore`
// and by the single-file reader from a copied repository. A user who is not root gets what such a user can have, and every difference is named.
import { chmodSync, chownSync, cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { openStore, storeConfigFromEnv } from '@holdfast/shared/store/location.ts'
import type { S3Server } from '../../demo/s3-server.ts'
import { type CliEvent } from '../../agent/cli/events.ts'
import { eventsOf, only, Workplace } from '../agent/cli/_support/cli.ts'
import { runReader } from '../reader/reader-support.ts'
import { type AwkwardTree, buildAwkwardTree } from '../_support/awkward-tree.ts'
import { runProgram } from '../_support/processes.ts'
import { startRadosgw } from '../_support/radosgw.ts'
import { compareManifests, compareTrees, type ManifestEntry, seesAttributes, treeManifest } from '../_support/tree-manifest.ts'

const LAUNCHER = join(import.meta.dirname, '../../node_modules/.bin/holdfast')
const asRoot = process.getuid?.() === 0
const NOBODY = 65_534
const MIB = 1024 * 1024
/** Sockets are not backed up: whoever listens makes its own. */
const skip = ({ kind }: { readonly kind: string }): boolean => kind === 's'

let work: Workplace
let source: string
let tree: AwkwardTree

beforeAll(() => {
  work = new Workplace()
  source = work.path('source')
  mkdirSync(source)
  tree = buildAwkwardTree(source, { seed: 31, ordinary: 150, hugeHoleBytes: 80 * MIB })
  // Nothing awkward is left out for a lack of rights or of a file system that has it.
  expect(seesAttributes).toBe(true)
  if (asRoot) expect(tree.leftOut.filter((what) => !/EINVAL|ENAMETOOLONG|EILSEQ/.test(what))).toEqual([])
})

afterAll(() => work.close())

describe.each(['the directory store', 'a real S3 server'])('an awkward tree through %s', (kind) => {
  let s3: S3Server | undefined
  let env: Record<string, string> = {}
  let keys: string | undefined

  beforeAll(async () => {
    if (kind === 'the directory store') env = { HOLDFAST_REPO: work.repo }
    else {
      s3 = await startRadosgw()
      await s3.createBucket('fidelity', { versioning: true })
      env = { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey, HOLDFAST_REPO: `s3:${s3.endpoint}/fidelity/one` }
    }
    const { summary } = await work.json(['init'], { env })
    expect(summary.exitCode).toBe(0)
    if (s3 !== undefined) keys = join(summary.place ?? '', 'keys')
    const backup = await work.json(['backup', source], { env })
    expect(backup.summary).toMatchObject({ exitCode: 0, counts: { problems: 0 } })
    expect(backup.summary.counts?.['files']).toBeGreaterThan(500)
  }, 120_000)

  afterAll(() => s3?.stop())

  it('comes back without one difference', async () => {
    const target = work.path(`restored from ${kind}`)
    const { summary } = await work.json(['restore', 'latest', '--target', target], { env })
    expect(summary).toMatchObject({ exitCode: 0 })
    // Holes are holes again, give or take what the file system does at their edges.
    expect(await compareTrees(source, join(target, source), { top: true, skip, holesWithinBlocks: 16 })).toEqual([])
    rmSync(target, { recursive: true })
  }, 120_000)

  it('comes back by the single-file reader from a copy of the objects alone', async () => {
    const copy = work.path(`objects of ${kind}`)
    if (s3 === undefined) cpSync(work.repo, copy, { recursive: true })
    else await copyObjects(env['HOLDFAST_REPO'] ?? '', env, copy)
    const target = work.path(`read from ${kind}`)
    const password = work.env['HOLDFAST_PASSWORD'] ?? ''
    const secret = { password, ...(keys === undefined ? {} : { keysDir: keys }) }
    expect(await runReader(copy, 'latest', target, secret)).toEqual({ code: 0, stdout: '', stderr: '' })
    // The reader writes holes as zeros: their content is compared, not their blocks.
    expect(await compareTrees(source, join(target, source), { top: true, skip: (entry) => skip(entry) || isHuge(entry) })).toEqual([])
    rmSync(target, { recursive: true })
  }, 120_000)
})

describe.skipIf(!asRoot)('a user who is not root', () => {
  it('restores what it may, and every difference is named: exit 3', async () => {
    const place = work.path('of nobody')
    mkdirSync(place)
    cpSync(work.repo, join(place, 'repo'), { recursive: true })
    const target = join(place, 'restored')
    const { code, events } = await asNobody(place, ['restore', 'latest', '--target', target])
    expect(code).toBe(3)
    const named = new Set(only(events, 'problem').map(pathOf))
    const [before, after] = [await treeManifest(source), await treeManifest(join(target, source))]
    const differing = [...before].flatMap(([path, entry]) => {
      const other = after.get(path)
      const lines = compareManifests(new Map([[path, entry]]), new Map(other === undefined ? [] : [[path, other]]), { skip })
      return lines.length === 0 ? [] : [{ path: `${source}/${path}`, lines }]
    })
    expect(differing.length).toBeGreaterThan(5)
    // An entry of several names is named by one of them: it is one thing that could not be restored as it was.
    const group = (path: string): string[] => {
      const { hardLinkGroup } = before.get(path.slice(source.length + 1)) ?? { hardLinkGroup: '' }
      if (hardLinkGroup === '') return [path]
      return [...before.values()].filter((entry) => entry.hardLinkGroup === hardLinkGroup).map((entry) => `${source}/${entry.path}`)
    }
    expect(differing.filter(({ path }) => !group(path).some((name) => named.has(name)))).toEqual([])
    // Content, links and times are for everybody: they differ nowhere but in what could not be made at all.
    const lost = differing.flatMap(({ lines }) => lines).filter((line) => !/: (?:owner|attributes|mode) |: missing$/.test(line))
    expect(lost).toEqual([])
    const missing = [...before.values()].filter((entry) => !after.has(entry.path) && !skip(entry))
    expect(new Set(missing.map(({ kind }) => kind))).toEqual(new Set(['c', 'b']))
    expect([...after.keys()].filter((path) => !before.has(path))).toEqual([])
  }, 120_000)

  it('backs up what it can read, names what it cannot, and exits with 3', async () => {
    const place = work.path('read by nobody')
    const mixed = join(place, 'source')
    mkdirSync(join(mixed, 'closed directory'), { recursive: true })
    writeFileSync(join(mixed, 'open'), 'for all')
    writeFileSync(join(mixed, 'closed\u001b[31m'), 'for nobody')
    writeFileSync(join(mixed, 'closed directory', 'below'), 'for nobody')
    chownBelow(place)
    for (const name of ['closed\u001b[31m', 'closed directory']) {
      chownSync(join(mixed, name), 0, 0)
      chmodSync(join(mixed, name), 0o700)
    }
    expect((await asNobody(place, ['init'], false)).code).toBe(0)
    const { code, events } = await asNobody(place, ['backup', mixed], false)
    expect(code, JSON.stringify(events)).toBe(3)
    expect(new Set(only(events, 'problem').map(pathOf))).toEqual(
      new Set([join(mixed, 'closed directory'), join(mixed, 'closed\u001b[31m')]),
    )
    const summary = events.at(-1)
    expect(summary).toMatchObject({ result: 'incomplete', counts: { problems: 2 } })
    const listed = await asNobody(place, ['ls', 'latest', mixed], false)
    expect(only(listed.events, 'entry').map(({ path }) => path)).toContain(join(mixed, 'open'))
  }, 60_000)
})

/** Runs the command as the user nobody, who owns `place` and works in it. */
async function asNobody(place: string, args: readonly string[], own = true): Promise<{ code: number | null; events: CliEvent[] }> {
  const home = join(place, 'home')
  mkdirSync(home, { recursive: true })
  // The folders above are of the test and closed to others.
  chmodSync(dirname(place), 0o711)
  if (own) chownBelow(place)
  else for (const path of [place, home]) chownSync(path, NOBODY, NOBODY)
  const env = {
    PATH: work.env['PATH'] ?? '',
    HOME: home,
    HOLDFAST_REPO: join(place, 'repo'),
    HOLDFAST_PASSWORD: work.env['HOLDFAST_PASSWORD'] ?? '',
  }
  const ids = [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups']
  const ended = await runProgram('setpriv', [...ids, '--', LAUNCHER, ...args, '--json'], { env, cwd: place })
  if (ended.stdout === '') throw new Error(`nobody could not run it: ${ended.stderr}`)
  return { code: ended.code, events: eventsOf(ended.stdout) }
}

function chownBelow(path: string): void {
  chownSync(path, NOBODY, NOBODY)
  for (const entry of readdirSync(path, { recursive: true, withFileTypes: true }))
    chownSync(join(entry.parentPath, entry.name), NOBODY, NOBODY)
}

/** The bytes of a problem's path, one character each. */
function pathOf({ path, pathBase64 }: Extract<CliEvent, { event: 'problem' }>): string {
  return pathBase64 === undefined ? Buffer.from(path ?? '').toString('latin1') : Buffer.from(pathBase64, 'base64').toString('latin1')
}

/** One hole, larger than the oracle reads: as zeros it has blocks. */
function isHuge({ path }: ManifestEntry): boolean {
  return path === 'holes/all-huge'
}

async function copyObjects(location: string, env: Readonly<Record<string, string>>, directory: string): Promise<void> {
  const store = await openStore(location, storeConfigFromEnv(env), { clock: systemClock, random: systemRandom, create: false })
  for await (const page of store.list(''))
    for (const { name } of page) {
      mkdirSync(dirname(join(directory, name)), { recursive: true })
      writeFileSync(join(directory, name), await store.get(name, { limitBytes: 128 * MIB }))
    }
  await store.close()
}

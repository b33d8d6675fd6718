// What happened in a simulated domain, and what must hold of it: snapshots that were reported good, deeds that the records must tell exactly once,
// restores that were granted. Each check throws with what is wrong.
import type { Clock } from '@holdfast/shared/clock.ts'
import { parseObjectName } from '@holdfast/shared/format/layout.ts'
import { padme } from '@holdfast/shared/padme.ts'
import { decodeFileRecords, parseHeader } from '@holdfast/shared/record.ts'
import { neededBy } from 'holdfast-server/deletions/explain.ts'
import { isEnd } from 'holdfast-server/restore-states.ts'
import { packsNeeded } from '../../agent/collection/mark.ts'
import { surveyRepository } from '../../agent/collection/survey.ts'
import { listForgotten, undelete } from '../../agent/collection/undelete.ts'
import type { RestoreWork } from '../../agent/daemon/parts.ts'
import type { RootKeys } from '../../agent/keys/domain.ts'
import { decodeForgetRecord } from '../../agent/repository/forget-record.ts'
import { openRepository, type Repository } from '../../agent/repository/repository.ts'
import { createTokens } from '../../agent/repository/snapshot.ts'
import { fixtureRandom, treeOf } from '../_support/engine-fixture.ts'
import type { Tree } from '../_support/plain-reader.ts'
import type { SimulatedBucket } from '../_support/simulated-store.ts'
import type { EnrolledDomain } from './enrolled-domain.ts'
import { demand, onlyWanted, restored, restoresTo, same, withoutTarget } from './invariants.ts'
import type { Processes } from './processes.ts'
import type { Appliance, Deed, Witness } from './simulated-appliance.ts'
import type { SimulatedServer } from './simulated-server.ts'

export type Promised = { readonly appliance: Appliance; readonly tree: Tree; readonly at: number }
export type AskedRestore = {
  readonly id: string
  readonly appliance: Appliance
  readonly snapshotId: string
  readonly root: string
  /** A grant that opens it was sent to the server, whether or not that was answered. */
  isGranted: boolean
}

export type Truth = {
  readonly witness: Witness
  readonly promised: ReadonlyMap<string, Promised>
  readonly restores: AskedRestore[]
  /** Takings back that were told to be too late for a snapshot: what went meanwhile went by what was on record when they began. */
  readonly late: { readonly id: string; readonly from: number; readonly to: number }[]
  readonly counts: { recoveries: number; comebacks: number; checks: number }
  /** A snapshot that counts restores bit by bit; one that is forgotten meanwhile need not. */
  readonly check: (id: string) => Promise<void>
  /** The target of a restore that ended well holds what the snapshot promised. */
  readonly arrived: (restore: AskedRestore) => void
  /** All of it, once everything has come to rest. */
  readonly checkAll: () => Promise<void>
}

export type TruthOptions = {
  readonly processes: Processes
  readonly bucket: SimulatedBucket
  readonly server: SimulatedServer
  readonly domain: () => EnrolledDomain
}

/** Steps of the server's clock and the time of calls may shorten a window by so much. */
const SLACK_MS = 3 * 3_600_000

export function createTruth(options: TruthOptions): Truth {
  const { processes, bucket, server, domain } = options
  const { clock } = processes
  const promised = new Map<string, Promised>()
  const restores: AskedRestore[] = []
  const late: { id: string; from: number; to: number }[] = []
  const counts = { recoveries: 0, comebacks: 0, checks: 0 }
  const sure: Deed[] = []
  const unsure: Deed[] = []
  const restorer = () => ({ keys: domain().keys, bucket, clock })
  const open = () => openRepository({ store: bucket.store('look'), keys: domain().keys.write.structure })
  const counting = async (): Promise<Set<string>> => {
    const { snapshots } = await (await open()).listSnapshots()
    return new Set(snapshots.map(({ structure }) => structure.ref.random))
  }

  const witness: Witness = {
    snapshot: (appliance, id, tree) => {
      processes.note(`${appliance.name} reports snapshot ${id} good`)
      promised.set(id, { appliance, tree, at: clock.now() })
    },
    deeds: (deeds, isSure) => void (isSure ? sure : unsure).push(...deeds),
    restores: (appliance, { target, snapshot }: RestoreWork) => {
      const id = snapshot.structure.ref.random
      const isAsked = restores.some(
        (one) =>
          one.appliance === appliance && one.snapshotId === id && one.isGranted && `/restored/${one.root.slice(5)}` === target.toString(),
      )
      demand(isAsked, `${appliance.name} restores ${id} into ${target.toString()} without a grant for that`)
      counts.recoveries += 1
    },
  }

  const check = async (id: string): Promise<void> => {
    const { tree, appliance } = promised.get(id)!
    const result = await restored(restorer(), id)
    if ('told' in result) demand(!(await counting()).has(id), `${id} of ${appliance.name} does not restore: ${result.told}`)
    else await restoresTo(restorer(), tree, `snapshot ${id} of ${appliance.name}`, id, result)
    counts.checks += 1
  }

  const arrived = ({ appliance, root, snapshotId }: AskedRestore): void => {
    const target = `/restored/${root.slice(5)}`
    const wanted = promised.get(snapshotId)!.tree
    const found = appliance.fs.quietly(() => withoutTarget(treeOf(appliance.fs, [target]), target))
    same(onlyWanted(found, wanted), wanted, `the restore of ${snapshotId} by ${appliance.name} into ${target}`)
  }

  /** Nothing but the server's job removes, nothing too early; what counts is whole; what was forgotten lately comes back. */
  const checkSnapshots = async (): Promise<void> => {
    const windowMs = server.settings.undeleteMs
    const forgets = forgetsOf(bucket, domain().keys)
    for (const { actor, operation, name, outcome, at } of bucket.trace) {
      if (operation !== 'remove' || outcome !== 'ok') continue
      demand(actor === 'server', `${actor} removed ${name}`)
      const id = name.startsWith('snapshots/') ? parseObjectName(name)!.random : undefined
      if (id === undefined || !promised.has(id)) continue
      const since = forgets(id, late.find((one) => one.id === id && one.from <= at && at <= one.to)?.from ?? at)
      demand(since !== undefined, `snapshot ${id} was deleted and nobody had forgotten it`)
      demand(at - since >= windowMs - SLACK_MS, `snapshot ${id} was deleted ${(at - since) / 3_600_000} hours after it was forgotten`)
    }
    const live = await counting()
    for (const [id, { tree, appliance }] of promised) {
      if (live.has(id)) {
        await restoresTo(restorer(), tree, `snapshot ${id} of ${appliance.name}`, id)
        continue
      }
      const since = forgets(id, clock.now())
      demand(since !== undefined, `snapshot ${id} of ${appliance.name} does not count and nobody has forgotten it`)
      if (clock.now() - since < windowMs - SLACK_MS) await comesBack(id)
    }
  }

  const comesBack = async (id: string): Promise<void> => {
    const { keys } = domain()
    const how = { repository: await open(), keys: keys.write, clock, random: fixtureRandom(`comeback ${id}`) }
    const { survey, snapshots } = await listForgotten(how)
    const chosen = snapshots.filter(({ structure }) => structure.ref.random === id)
    demand(chosen.length === 1, `snapshot ${id} was forgotten in time and is not there`)
    await undelete(how, chosen, survey, false)
    await restoresTo(restorer(), promised.get(id)!.tree, `snapshot ${id}, forgotten in time and taken back`, id)
    counts.comebacks += 1
  }

  const checkAll = async (): Promise<void> => {
    checkRecords({ server, domain: domain(), sure, unsure })
    await checkNeeds(server, domain(), await open(), clock)
    for (const restore of restores) {
      const row = server.database.get('restores', restore.id)
      demand(row !== undefined && isEnd(row.state), `restore ${restore.id} has not ended: ${row?.state}`)
      if (row.state === 'completed') arrived(restore)
    }
    await checkSnapshots()
  }
  return { witness, promised, restores, late, counts, check, arrived, checkAll }
}

/** Since when a snapshot is forgotten, as things stood at a moment: by every forget record that was ever stored. */
function forgetsOf(bucket: SimulatedBucket, keys: RootKeys): (id: string, at: number) => number | undefined {
  const events: { at: number; id: string; isForgotten: boolean }[] = []
  for (const { operation, name, outcome, at } of bucket.trace) {
    if (operation !== 'put' || outcome !== 'ok' || !name.startsWith('lists/forgets/')) continue
    const ref = parseObjectName(name)!
    const { record } = decodeForgetRecord(bucket.history(name)[0]!, ref, keys.write.structure)
    for (const { snapshot } of record.undone) events.push({ at, id: snapshot.random, isForgotten: false })
    for (const { snapshot } of record.entries) events.push({ at, id: snapshot.random, isForgotten: true })
  }
  return (id, moment) => {
    let since: number | undefined
    for (const { at, isForgotten } of events.filter((event) => event.id === id && event.at <= moment))
      since = isForgotten ? (since ?? at) : undefined
    return since
  }
}

/** The records of every agent are one unbroken chain; each act begins and ends once in it; and of files it tells what happened, once, and nothing else. */
function checkRecords({
  server,
  domain,
  sure,
  unsure,
}: {
  server: SimulatedServer
  domain: EnrolledDomain
  sure: readonly Deed[]
  unsure: readonly Deed[]
}): void {
  const { rows } = server.database
  demand(rows('SELECT * FROM record_forks').length === 0, 'the server holds two versions of a record')
  const tokens = createTokens(domain.keys.write.structure.recordKey)
  const names = new Map([...domain.agentIds].map(([appliance, id]) => [id, appliance.name]))
  const told = new Map<string, number>()
  const acts = new Map<string, string[]>()
  const last = new Map<string, { seq: number; hash: string }>()
  for (const row of rows('SELECT * FROM record_frames ORDER BY agent_id, seq')) {
    const [agentId, seq] = [String(row['agent_id']), Number(row['seq'])]
    const before = last.get(agentId) ?? { seq: 0, hash: '0'.repeat(64) }
    demand(seq === before.seq + 1, `the records of ${names.get(agentId)} go from ${before.seq} to ${seq}`)
    demand(hexOf(row['prev']) === before.hash, `record ${seq} of ${names.get(agentId)} does not follow the one before`)
    demand(row['recorded_at'] !== null && row['refused_code'] === null, `record ${seq} of ${names.get(agentId)} was not recorded`)
    last.set(agentId, { seq, hash: hexOf(row['entry_hash']) })
    const header = parseHeader(Buffer.from(row['header'] as Uint8Array))
    if ('runId' in header && header.runId !== undefined) acts.set(header.runId, [...(acts.get(header.runId) ?? []), header.kind])
    for (const { kind, token, size } of decodeFileRecords(Buffer.from(row['body'] as Uint8Array)))
      count(told, `${names.get(agentId)} ${kind} ${Buffer.from(token).toString('hex')} ${size}`)
  }
  for (const [runId, kinds] of acts) {
    if (kinds.every((kind) => kind === 'agent-note')) continue
    const shown = kinds.join(' ')
    demand(
      /^(run-started( transmission)* run-ended|recovery-started( recovery)* recovery-ended)$/.test(shown),
      `${runId} is told as: ${shown}`,
    )
  }
  const keyOf = ({ agent, kind, path, size }: Deed): string => `${agent} ${kind} ${tokens.path(Buffer.from(path, 'latin1'))} ${padme(size)}`
  const [certain, possible] = [new Map<string, number>(), new Map<string, number>()]
  const nameOf = new Map<string, string>()
  for (const deed of [...sure, ...unsure]) nameOf.set(keyOf(deed), `${deed.kind} of ${deed.path} by ${deed.agent}`)
  for (const deed of sure) count(certain, keyOf(deed))
  for (const deed of unsure) count(possible, keyOf(deed))
  for (const key of new Set([...told.keys(), ...certain.keys()])) {
    const [times, least, more] = [told.get(key) ?? 0, certain.get(key) ?? 0, possible.get(key) ?? 0]
    demand(times >= least && times <= least + more, `${nameOf.get(key) ?? key} happened ${least} times and is recorded ${times} times`)
  }
}

/** What the server was told that a snapshot needs is enough for it: with all other packs gone it would be whole. */
async function checkNeeds(server: SimulatedServer, { storeId }: EnrolledDomain, repository: Repository, clock: Clock): Promise<void> {
  const { look } = server.database
  const survey = await surveyRepository(repository, () => clock.now())
  const books = new Map(look('booksOf', { storeId }).snapshots.map((known) => [known.id, known]))
  const refs = [...survey.packs.values()].map(({ session, random }) => session + random)
  const needs = look('needsOf', { storeId, packs: Buffer.from(refs.join(''), 'hex'), sessions: [] })
  for (const snapshot of survey.snapshots) {
    const known = books.get(snapshot.structure.ref.random)
    if (known?.sequence === null || known === undefined) continue
    const stated = new Set(needs.filter(neededBy([known])).map(({ pack }) => pack.slice(32)))
    const isGone = (random: string): boolean => survey.whole.gone.has(random) || !stated.has(random)
    await packsNeeded({ repository, view: survey.whole.view, snapshot, isGone, isCondemned: () => false })
  }
}

function count(into: Map<string, number>, key: string): void {
  into.set(key, (into.get(key) ?? 0) + 1)
}

function hexOf(value: unknown): string {
  return Buffer.from(value as Uint8Array).toString('hex')
}

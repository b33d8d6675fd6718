// One history of one domain with its control server under one seed: appliances that carry out policies, restore what was granted, collect by retention,
// and are asked by people; a server that deletes what they name. Requests, store calls, jobs and machines fail in every way; nothing may be lost by it.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { createHash } from 'node:crypto'
import { isoTime } from '@holdfast/shared/clock.ts'
import { type Random, randomBelow } from '@holdfast/shared/random.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { isEnd } from 'holdfast-server/restore-states.ts'
import { listForgotten, undelete } from '../../agent/collection/undelete.ts'
import { agentState } from '../../agent/daemon/agent-state.ts'
import { openStateDirectory } from '../../agent/daemon/state-directory.ts'
import { openRepository } from '../../agent/repository/repository.ts'
import { fixtureRandom } from '../_support/engine-fixture.ts'
import { SimulatedBucket } from '../_support/simulated-store.ts'
import { enrolDomain, type EnrolledDomain } from './enrolled-domain.ts'
import { type AskedRestore, createTruth, type Truth } from './enrolled-truth.ts'
import { demand } from './invariants.ts'
import { createProcesses, type Process, type Processes } from './processes.ts'
import {
  alterSource,
  type Appliance,
  type ApplianceChances,
  NO_APPLIANCE_CHANCES,
  RESTORE_ROOTS,
  simulatedAppliance,
  STATE,
} from './simulated-appliance.ts'
import { NO_CHANCES, type ServerChances, simulatedServer, type SimulatedServer } from './simulated-server.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

export type EnrolledWorldOptions = {
  readonly seed: string
  readonly appliances?: number
  /** How long each life of the story is, in moments. */
  readonly moments?: number
  readonly serverChances?: ServerChances
  readonly applianceChances?: ApplianceChances
  /** Told of every turn and event, to look at a seed that fails. */
  readonly log?: (line: string) => void
}

export type EnrolledWorldReport = {
  readonly hash: string
  readonly turns: number
  readonly snapshots: number
  readonly records: number
  readonly recoveries: number
  /** By the state in which they ended. */
  readonly restores: Readonly<Record<string, number>>
  readonly deletions: Readonly<Record<string, number>>
  readonly deleted: number
  readonly comebacks: number
  readonly deaths: { readonly server: number; readonly appliances: number }
}

const SERVER_CHANCES: ServerChances = {
  ...{ lostRequest: 100, lostReply: 100, silence: 40, twice: 60, replay: 20, delay: 40 },
  ...{ death: 8, jobTwice: 30 },
}
const APPLIANCE_CHANCES: ApplianceChances = { suspend: 20, crash: 20, fail: 40, fileCrash: 40 }

type World = {
  readonly options: EnrolledWorldOptions
  readonly processes: Processes
  readonly below: (n: number) => number
  readonly random: Random
  readonly server: SimulatedServer
  readonly bucket: SimulatedBucket
  readonly appliances: readonly Appliance[]
  readonly domain: EnrolledDomain
  readonly truth: Truth
  readonly policies: Map<Appliance, string>
  /** Moments of the story are so far apart: some histories are long enough for what was forgotten to be deleted. */
  readonly pace: number
}

/** Runs one history to its end; throws where a promise is broken. */
export async function runEnrolledWorld(options: EnrolledWorldOptions): Promise<EnrolledWorldReport> {
  const random = fixtureRandom(`enrolled world ${options.seed}`)
  const below = (n: number): number => randomBelow(random, n)
  let isQuiet = true
  const deaths = { server: 0, appliances: 0 }
  const processes = createProcesses({ random, patience: 8, log: options.log })
  const bucket = new SimulatedBucket({ clock: processes.clock })
  const story = processes.start('story')
  /** Starts again what died, after a while that a person or a supervisor needs. */
  const later = (start: () => Promise<void> | void): void =>
    processes.spawn(async () => {
      await processes.pause(story, isQuiet || below(3) > 0 ? below(5 * MINUTE) : below(DAY))
      await start()
    })
  const server: SimulatedServer = simulatedServer({
    processes,
    random: fixtureRandom(`server ${options.seed}`),
    settings: {
      ...{ secure: true, restoreTtlMs: 72 * HOUR, graceMs: HOUR, silentMs: HOUR },
      ...{ undeleteMs: DAY * (13 + below(3)), deletionsEveryMs: 10 * MINUTE },
    },
    chances: () => (isQuiet ? NO_CHANCES : (options.serverChances ?? SERVER_CHANCES)),
    openStore: (process) => byTurns(processes, process, bucket.store('server')),
    onDeath: () => {
      deaths.server += 1
      later(() => server.boot())
    },
  })
  let storeId = 'store_00000000000000000000000000000000'
  let domain: EnrolledDomain | undefined
  const truth = createTruth({ processes, bucket, server, domain: () => domain! })
  const appliances = Array.from({ length: options.appliances ?? 1 + below(3) }, (_, i) =>
    simulatedAppliance({
      ...{ name: `appliance ${i}`, processes, bucket, server },
      random: fixtureRandom(`appliance ${i} ${options.seed}`),
      chances: () => (isQuiet ? NO_APPLIANCE_CHANCES : (options.applianceChances ?? APPLIANCE_CHANCES)),
      witness: truth.witness,
      storeId: () => storeId,
      onCrash: (appliance) => {
        deaths.appliances += 1
        later(() => appliance.reboot())
      },
    }),
  )

  processes.spawn(async () => {
    await server.boot()
    const setStoreId = (id: string): void => {
      storeId = id
    }
    domain = await enrolDomain({ processes, random, server, bucket, appliances, setStoreId })
    const world: World = {
      options,
      processes,
      below,
      random,
      server,
      bucket,
      appliances,
      domain,
      truth,
      policies: new Map(),
      pace: [1, 1, 2, 5][below(4)]!,
    }
    for (const appliance of appliances) {
      alterSource(appliance, sharedContent, 6)
      world.policies.set(appliance, await makePolicy(world, appliance))
      appliance.boot()
    }
    isQuiet = false
    await Promise.all([
      ...appliances.map((appliance) => livesBeside(world, appliance)),
      restoresAreAsked(world),
      serverIsRun(world),
      forgottenIsTakenBack(world),
      snapshotsAreChecked(world),
    ])
    isQuiet = true
    await comesToRest(world)
    for (const appliance of appliances) await appliance.stop()
    await serverComesToRest(world)
  })
  try {
    await processes.run()
    await truth.checkAll()
    return report(processes, server, bucket, truth, deaths)
  } finally {
    server.database.close()
  }
}

function report(
  processes: Processes,
  server: SimulatedServer,
  bucket: SimulatedBucket,
  truth: Truth,
  deaths: EnrolledWorldReport['deaths'],
): EnrolledWorldReport {
  const { rows } = server.database
  const byState = (table: string): Record<string, number> =>
    Object.fromEntries(
      rows(`SELECT state, count(*) AS n FROM ${table} GROUP BY state ORDER BY state`).map((row) => [
        String(row['state']),
        Number(row['n']),
      ]),
    )
  const hash = createHash('sha256').update(processes.hash())
  for (const { actor, operation, name, outcome } of bucket.trace) hash.update(`${actor} ${operation} ${name} ${outcome}\n`)
  return {
    hash: hash.digest('hex'),
    turns: processes.turns(),
    snapshots: truth.promised.size,
    records: Number(rows('SELECT count(*) AS n FROM record_frames')[0]!['n']),
    recoveries: truth.counts.recoveries,
    restores: byState('restores'),
    deletions: byState('deletions'),
    deleted: bucket.trace.filter(({ actor, operation, outcome }) => actor === 'server' && operation === 'remove' && outcome === 'ok')
      .length,
    comebacks: truth.counts.comebacks,
    deaths,
  }
}

/** What others have too: shared content that comes and goes is what collections lose. */
const sharedContent = (i: number): Buffer => fixtureRandom(`shared ${i}`).bytes(2500)

function byTurns(processes: Processes, process: Process, store: Store): Store {
  const turn = (what: string): Promise<void> => processes.turn(process, what)
  return {
    location: store.location,
    ...(store.diagnostics === undefined ? {} : { diagnostics: store.diagnostics }),
    put: async (name, body, more) => (await turn(`put ${name}`), store.put(name, body, more)),
    get: async (name, more) => (await turn(`get ${name}`), store.get(name, more)),
    getRange: async (name, range, more) => (await turn(`range ${name}`), store.getRange(name, range, more)),
    head: async (name, more) => (await turn(`head ${name}`), store.head(name, more)),
    async *list(prefix, more) {
      for await (const page of store.list(prefix, more)) {
        await turn(`list ${prefix}`)
        yield page
      }
    },
    remove: async (name, more) => (await turn(`remove ${name}`), store.remove(name, more)),
    close: () => store.close(),
  }
}

/** Rules that keep something and let a lot go, in the days that a history has. */
function retentionOf(below: (n: number) => number): Record<string, number> {
  return [{ last: 2 }, { daily: 2 }, { last: 1, daily: 1 }, { hourly: 3 }, { withinDays: 2 }][below(5)]!
}

async function makePolicy({ below, domain }: World, appliance: Appliance): Promise<string> {
  const { status, json } = await domain.operate('POST', '/v1/policies', {
    ...{ agentId: domain.agentIds.get(appliance), source: 'documents', storeId: domain.storeId, instructionId: domain.instructionId },
    schedule: { every: ['6h', '12h', '24h'][below(3)] },
    ...(below(4) === 0 ? {} : { retention: retentionOf(below) }),
  })
  demand(status === 201, `a policy was refused: ${JSON.stringify(json)}`)
  return json.id
}

const momentsOf = ({ options, below }: World): number => options.moments ?? 6 + below(8)

/** The person beside an appliance, and what befalls the machine. */
async function livesBeside(world: World, appliance: Appliance): Promise<void> {
  const { processes, below, pace } = world
  const person = processes.start('person')
  for (let moment = momentsOf(world); moment > 0; moment--) {
    await processes.pause(person, pace * below(below(5) === 0 ? 4 * DAY : DAY))
    if (!appliance.isCrashed() && !appliance.isBusy()) alterSource(appliance, sharedContent, below(4))
    const kind = below(12)
    if (kind === 0) appliance.stepClock((below(20) - 10) * MINUTE)
    else if (kind === 1) appliance.stepClock((below(10) - 5) * DAY)
    else if (kind === 2) appliance.crash()
    else if (kind === 3 && appliance.isUp()) {
      await appliance.stop()
      if (!appliance.isCrashed()) appliance.boot()
    } else if (kind < 6 && !appliance.isCrashed()) acceptPolicies(appliance)
  }
}

/** As `holdfast run --accept-policy` does, with whatever came last. */
function acceptPolicies(appliance: Appliance): void {
  const { process, fileSystem } = appliance.process()
  const state = agentState(openStateDirectory({ fileSystem, path: STATE, random: appliance.random }))
  const { version, held } = state.policies.load() ?? { version: 0, held: [] }
  if (held.length > 0) state.consent.save({ version, at: isoTime(appliance.now()) })
  state.directory.close()
  process.end()
}

/** The controller asks for restores, grants most of them, some wrongly, and calls some off. */
async function restoresAreAsked(world: World): Promise<void> {
  const { processes, below, domain, truth, appliances, pace } = world
  const person = processes.start('controller')
  const used = new Map<Appliance, number>()
  for (let moment = momentsOf(world); moment > 0; moment--) {
    await processes.pause(person, HOUR + pace * below(below(5) === 0 ? 4 * DAY : DAY))
    const appliance = appliances[below(appliances.length)]!
    const root = used.get(appliance) ?? 0
    // Of the newest, mostly: older ones may be forgotten by the time that the grant is made.
    const known = [...truth.promised.keys()].slice(below(4) === 0 ? 0 : -4)
    if (known.length === 0 || root >= RESTORE_ROOTS) continue
    used.set(appliance, root + 1)
    const snapshotId = known[below(known.length)]!
    const asked = await askForRestore(world, appliance, snapshotId, `desk-${root}`)
    if (asked === undefined) continue
    if (below(8) === 0) await domain.call('POST', `/v1/restores/${asked.id}/cancel`)
    else processes.spawn(() => seesToRestore(world, asked))
  }
}

async function askForRestore(world: World, appliance: Appliance, snapshotId: string, root: string): Promise<AskedRestore | undefined> {
  const { domain, random, truth } = world
  const agentId = domain.agentIds.get(appliance)!
  const key = random.bytes(16).toString('hex')
  const body = {
    ...{ agentId, snapshotId, selection: { whole: true }, restoreRoot: root, conflict: 'beside', purpose: 'restore' },
    instructionId: domain.instructionId,
  }
  const { status, json } = await domain.call('POST', '/v1/restores', body, { 'idempotency-key': key })
  // The server may not know of the snapshot yet, or not any more.
  if (status === 404 || status === 409) return undefined
  demand(status === 201 || status === 200, `a restore was refused: ${status} ${JSON.stringify(json)}`)
  const asked: AskedRestore = { id: json.id, appliance, snapshotId, root, isGranted: false }
  truth.restores.push(asked)
  return asked
}

/** Follows a restore to its end: grants it once the agent sent its key. */
async function seesToRestore(world: World, asked: AskedRestore): Promise<void> {
  const { processes, below, domain, truth } = world
  const person = processes.start('key holder')
  const intention = below(10)
  for (;;) {
    await processes.pause(person, below(10 * HOUR))
    const { json } = await domain.call('GET', `/v1/restores/${asked.id}`)
    const state = String(json['state']) as Parameters<typeof isEnd>[0]
    if (state === 'completed') truth.arrived(asked)
    if (isEnd(state)) return
    if (state !== 'awaiting_grant') {
      if (below(12) === 0) await domain.call('POST', `/v1/restores/${asked.id}/cancel`)
      continue
    }
    if (intention === 0) await domain.call('POST', `/v1/restores/${asked.id}/reject`)
    else await grants(world, asked, String((json['key'] as { publicKey: string }).publicKey), intention === 1)
  }
}

async function grants(world: World, asked: AskedRestore, publicKey: string, isWrong: boolean): Promise<void> {
  const { domain, below, random } = world
  const agentId = domain.agentIds.get(asked.appliance)!
  const terms = { restoreId: asked.id, agentId, snapshotId: asked.snapshotId, restoreRoot: asked.root, publicKey }
  const wrong = [
    { snapshotId: random.bytes(16).toString('hex') },
    { restoreId: `rst_${random.bytes(16).toString('hex')}` },
    { agentId: `ag_${random.bytes(16).toString('hex')}` },
    { root: random.bytes(32).toString('hex') },
    { restoreRoot: 'desk-11', conflict: 'always' },
    { issuedAt: world.processes.clock.now() - 2 * DAY, expiresAt: world.processes.clock.now() - DAY },
  ][below(6)]!
  const grant = await domain.grant(terms, isWrong ? wrong : {})
  if (grant === undefined) {
    await domain.call('POST', `/v1/restores/${asked.id}/cancel`)
    return
  }
  // Before it is sent: it may arrive without an answer.
  if (!isWrong) asked.isGranted = true
  await domain.call('PUT', `/v1/restores/${asked.id}/grant`, grant)
}

/** The operator changes policies and asks for runs; server and queue have their mishaps. */
async function serverIsRun(world: World): Promise<void> {
  const { processes, below, domain, server, appliances, policies, pace } = world
  const person = processes.start('operator')
  for (let moment = 2 * momentsOf(world); moment > 0; moment--) {
    await processes.pause(person, pace * below(20 * HOUR))
    const appliance = appliances[below(appliances.length)]!
    const policyId = policies.get(appliance)!
    const kind = below(12)
    if (kind < 3) {
      const { status } = await domain.call('POST', `/v1/agents/${domain.agentIds.get(appliance)}/backup-now`, { policyId })
      demand(status === 202, `a run was refused: ${status}`)
    } else if (kind < 5) {
      const change = [{ retention: retentionOf(below) }, { retention: null }, { schedule: { every: ['6h', '12h', '24h'][below(3)] } }][
        below(3)
      ]
      const { status, json } = await domain.operate('PATCH', `/v1/policies/${policyId}`, change)
      demand(status === 200, `a change of a policy was refused: ${status} ${JSON.stringify(json)}`)
    } else if (kind < 7) server.queue.empty()
    else if (kind === 7) {
      server.queue.setAway(true)
      await processes.pause(person, below(8 * HOUR))
      server.queue.setAway(false)
    } else if (kind < 10) server.die()
    else if (kind === 10) server.stepClock((below(10) - 5) * MINUTE)
  }
}

/** The holder of the root takes back some of what was forgotten, within the window. */
async function forgottenIsTakenBack(world: World): Promise<void> {
  const { processes, below, bucket, domain, random, pace, truth } = world
  const person = processes.start('key holder')
  for (let moment = 3; moment > 0; moment--) {
    await processes.pause(person, pace * below(4 * DAY))
    const store = byTurns(processes, person, bucket.store('key holder'))
    const how = {
      repository: await openRepository({ store, keys: domain.keys.write.structure }),
      keys: domain.keys.write,
      clock: processes.clock,
      random,
    }
    const { survey, snapshots } = await listForgotten(how)
    if (snapshots.length === 0) continue
    const one = snapshots[below(snapshots.length)]!
    const from = processes.clock.now()
    try {
      await undelete(how, [one], survey, false)
    } catch (error) {
      // The server was deleting it already; it is forgotten as before.
      if (!isHoldfastError(error, 'conflict')) throw error
      truth.late.push({ id: one.structure.ref.random, from, to: processes.clock.now() })
    }
  }
}

/** Somebody with the root restores what was reported good, again and again. */
async function snapshotsAreChecked(world: World): Promise<void> {
  const { processes, below, truth, pace } = world
  const auditor = processes.start('auditor')
  for (let moment = momentsOf(world); moment > 0; moment--) {
    await processes.pause(auditor, pace * below(2 * DAY))
    const known = [...truth.promised.keys()]
    if (known.length > 0) await truth.check(known[below(known.length)]!)
  }
}

/** Nothing fails any more: every journal arrives, every restore ends, every job is done, in a time that has an end. */
async function comesToRest({ processes, server, appliances, truth, domain }: World): Promise<void> {
  const nobody = processes.start('end')
  const { get } = server.database
  const missing = (): string[] => {
    if (!server.isUp()) return ['the server is down']
    const jobs = openJobs(server)
    const open = truth.restores.filter(({ id }) => !isEnd(get('restores', id)!.state)).map(({ id }) => `restore ${id}`)
    const behind = appliances.filter((appliance) => {
      const { journalPending, lastSeq, recordedThrough } = get('agents', domain.agentIds.get(appliance)!)!
      return !appliance.isUp() || appliance.isBusy() || journalPending > 0 || recordedThrough < lastSeq || reportsOf(appliance) > 0
    })
    return [...jobs, ...open, ...behind.map(({ name }) => name)]
  }
  // Restores that nobody grants expire; everything else is a matter of minutes.
  for (let round = 0; round < 150; round++) {
    await processes.pause(nobody, 90 * MINUTE)
    if (missing().length === 0) return
  }
  throw new Error(`not at rest: ${missing().join(', ')}; the server says ${server.logged.slice(-3).join(' ')}`)
}

/** A daemon that was at work when it was stopped sent its last records while it went. */
async function serverComesToRest({ processes, server }: World): Promise<void> {
  const nobody = processes.start('end of the server')
  for (let round = 0; round < 150; round++) {
    if (server.isUp() && openJobs(server).length === 0) return
    await processes.pause(nobody, MINUTE)
  }
  throw new Error(`the server is not at rest: ${openJobs(server).join(', ')}`)
}

function openJobs({ database }: SimulatedServer): string[] {
  const open = database.rows(`SELECT job_id FROM jobs WHERE done_at IS NULL AND queue <> 'deletions'`)
  return open.map((row) => `job ${String(row['job_id'])}`)
}

function reportsOf(appliance: Appliance): number {
  const directory = appliance.fs.quietly(() => {
    const opened = openStateDirectory({ fileSystem: appliance.fs, path: STATE, random: appliance.random })
    const bytes = opened.read('reports.json', 1024 * 1024)
    opened.close()
    return bytes
  })
  return directory === undefined ? 0 : (JSON.parse(directory.toString()) as unknown[]).length
}

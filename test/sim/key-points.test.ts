// `init` and the changes of keys, as a person types them, interrupted, failed and lied to at every call of the store: at no point is there a repository
// that its passphrase does not open, and no key change leaves the repository without one. Run again, each comes to its end.
//
// HOLDFAST_SIM_POINT='key passwd/store crash after/9' replays one point.
import { createHash } from 'node:crypto'
import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type * as location from '@holdfast/shared/store/location.ts'
import { runCommandLine } from '../../agent/cli/program.ts'
import type * as keyObject from '../../agent/keys/key-object.ts'
import { fixtureRandom } from '../_support/engine-fixture.ts'
import { type SimulatedClock, simulatedClock } from '../_support/simulated-clock.ts'
import { simulatedFileSystem } from '../_support/simulated-file-system.ts'
import { noFaults, SimulatedBucket } from '../_support/simulated-store.ts'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { demand } from './invariants.ts'
import { type Call, callsOf, LIE_MODES, type Mode, STORE_MODES } from './modes.ts'

const seam = vi.hoisted(() => ({ bucket: undefined as unknown }))
vi.mock('@holdfast/shared/store/location.ts', async (original) => ({
  ...(await original<typeof location>()),
  openStore: async () => (seam.bucket as SimulatedBucket).store('command'),
}))
/** The least that is allowed: what a passphrase costs is no matter here. */
const CHEAP = { memoryKiB: 8 * 1024, passes: 1, lanes: 1 }
vi.mock('../../agent/keys/key-object.ts', async (original) => {
  const real = await original<typeof keyObject>()
  return { ...real, wrapRoot: (input: Parameters<typeof real.wrapRoot>[0]) => real.wrapRoot({ ...input, cost: CHEAP }) }
})
const { unlockRoot } = await import('../../agent/keys/key-object.ts')

const replayed = process.env['HOLDFAST_SIM_POINT']
/** One of so many points by default. */
const EVERY = soak || replayed !== undefined ? 1 : 12
let points = 0
let violations = 0
const begun = performance.now()
afterAll(() => {
  if (replayed === undefined)
    soakResult({
      suite: 'simulation',
      figure: 'crash and fault points of init and key changes',
      asked: 0,
      value: points,
      violations,
      seed: soak ? 'all' : rotatingSeed(),
      seconds: Math.round((performance.now() - begun) / 1000),
    })
})

type Ended = { readonly exitCode: number; readonly events: readonly Record<string, unknown>[] }
type Machine = { bucket: SimulatedBucket; readonly clock: SimulatedClock }

/** One command in a process of its own, with nothing but its store. */
async function command(machine: Machine, argv: readonly string[], env: Record<string, string> = {}, signal?: AbortSignal): Promise<Ended> {
  seam.bucket = machine.bucket
  const lines: string[] = []
  const quiet = { write: () => undefined, isTerminal: false, columns: () => 80, isClosed: () => false }
  const exitCode = await runCommandLine({
    argv: [...argv, '--json', '--repo', '/simulated'],
    env: { HOLDFAST_PASSWORD: 'first passphrase', HOME: '/nowhere', ...env },
    cwd: Buffer.from('/'),
    home: '/nowhere',
    hostName: 'host',
    uid: 0,
    stdout: { ...quiet, write: (text) => void lines.push(text), writeBytes: async () => undefined },
    stderr: quiet,
    signal: signal ?? new AbortController().signal,
    crashed: new Promise<never>(() => undefined),
    onShowProgress: () => undefined,
    terminal: () => undefined,
    clock: machine.clock,
    random: fixtureRandom(`command ${argv.join(' ')} ${machine.bucket.trace.length}`),
  })
  const events = lines
    .join('')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
  return { exitCode, events }
}

/** Whether a secret opens the repository's root with what stands in the store. */
async function opens({ bucket }: Machine, secret: Parameters<typeof unlockRoot>[1]): Promise<boolean> {
  const keys = bucket.names('keys/').map((name) => ({ name, bytes: bucket.content(name)! }))
  return unlockRoot(keys, secret).then(
    () => true,
    () => false,
  )
}

const codeOf = ({ events }: Ended): string => String(events.find(({ event }) => event === 'recovery-code')?.['code'])
const nameOf = ({ events }: Ended): string => String(events.find(({ event }) => event === 'summary')?.['keyName'])

type KeyOperation = {
  readonly name: string
  readonly prepare: (machine: Machine) => Promise<void>
  readonly argv: () => readonly string[]
  readonly env?: Record<string, string>
  /** What holds at every point. `ended` is how the command under the fault ended; a lie may have spoilt one object. */
  readonly holds: (machine: Machine, ended: Ended, mode: Mode) => Promise<void>
}

const first = { passphrase: 'first passphrase' }
const second = { passphrase: 'second passphrase' }
let recovery = ''
let added = ''
const initialised = async (machine: Machine): Promise<void> => {
  const made = await command(machine, ['init', '--accept-overwrite'])
  demand(made.exitCode === 0, 'init fails without a fault')
  recovery = codeOf(made)
}

const OPERATIONS: readonly KeyOperation[] = [
  {
    name: 'init',
    prepare: async () => undefined,
    argv: () => ['init', '--accept-overwrite'],
    holds: async (machine, ended, mode) => {
      // A key that the store confirmed and does not have is what the second one is for.
      if (ended.exitCode === 0) {
        const either = (await opens(machine, first)) || (await opens(machine, { recoveryCode: codeOf(ended) }))
        demand(either, 'init was reported good and neither passphrase nor recovery code opens the repository')
      }
      if (machine.bucket.content('repository') !== undefined && mode.lies !== true && mode.spoils !== true)
        demand(await opens(machine, first), 'there is a repository that its passphrase does not open')
      // What is left is a repository, or nothing that stands in the way of one.
      const again = await command(machine, ['init', '--accept-overwrite'])
      const isThere = again.events.some(({ code }) => code === 'already-exists')
      if (mode.spoils !== true)
        demand(
          again.exitCode === 0 || (isThere && machine.bucket.content('repository') !== undefined),
          `init after the fault ends with ${again.exitCode}`,
        )
      if (again.exitCode === 0) demand(await opens(machine, first), 'the repository of the second init does not open')
    },
  },
  {
    name: 'key add',
    prepare: initialised,
    argv: () => ['key', 'add'],
    env: { HOLDFAST_NEW_PASSWORD: second.passphrase },
    holds: async (machine, ended, mode) => {
      demand(await opens(machine, first), 'the passphrase of before does not open any more')
      if (ended.exitCode === 0 && mode.lies !== true) demand(await opens(machine, second), 'the key that was reported added does not open')
      const again = await command(machine, ['key', 'add'], { HOLDFAST_NEW_PASSWORD: second.passphrase })
      demand(again.exitCode === 0 && (await opens(machine, second)), 'key add after the fault fails')
    },
  },
  {
    name: 'key passwd',
    prepare: initialised,
    argv: () => ['key', 'passwd'],
    env: { HOLDFAST_NEW_PASSWORD: second.passphrase },
    holds: async (machine, ended) => {
      const [old, fresh] = [await opens(machine, first), await opens(machine, second)]
      demand(old || fresh, 'neither passphrase opens the repository')
      demand(await opens(machine, { recoveryCode: recovery }), 'the recovery code does not open the repository')
      if (ended.exitCode === 0) demand(fresh, 'the new passphrase was reported good and does not open')
      if (!old) return
      const again = await command(machine, ['key', 'passwd'], { HOLDFAST_NEW_PASSWORD: second.passphrase })
      demand(again.exitCode === 0 && (await opens(machine, second)), 'key passwd after the fault fails')
    },
  },
  {
    name: 'key remove',
    prepare: async (machine) => {
      await initialised(machine)
      added = nameOf(await command(machine, ['key', 'add'], { HOLDFAST_NEW_PASSWORD: second.passphrase }))
    },
    argv: () => ['key', 'remove', added],
    holds: async (machine, ended, mode) => {
      demand(await opens(machine, first), 'the key that stays does not open')
      if (ended.exitCode === 0 && mode.lies !== true) demand(!(await opens(machine, second)), 'a key that was reported removed opens')
      if (machine.bucket.content(`keys/${added}`) === undefined) return
      demand((await command(machine, ['key', 'remove', added])).exitCode === 0, 'key remove after the fault fails')
    },
  },
]

async function prepared(operation: KeyOperation): Promise<Machine> {
  const clock = simulatedClock({ autoMs: Infinity })
  const machine = { clock, bucket: new SimulatedBucket({ clock }) }
  await operation.prepare(machine)
  clock.advance(60_000)
  return machine
}

async function runPoint(operation: KeyOperation, base: SimulatedBucket, mode: Mode, call: Call): Promise<void> {
  const clock = simulatedClock({ autoMs: Infinity, startMs: 1_800_000_100_000 })
  const machine = { clock, bucket: base.clone({ clock }) }
  const abort = new AbortController()
  const armed = {
    bucket: machine.bucket,
    setStoreFaults: machine.bucket.setFaults.bind(machine.bucket),
    fs: simulatedFileSystem({ clock }),
  }
  mode.arm(armed, call, abort)
  const ended = await command(machine, operation.argv(), operation.env, abort.signal)
  machine.bucket.setFaults(noFaults)
  clock.advance(2 * 3_600_000)
  await operation.holds(machine, ended, mode)
}

beforeEach(() => {
  seam.bucket = undefined
})

describe('interrupted at any call of the store', () => {
  test.each(OPERATIONS.map((operation) => [operation.name, operation] as const))('%s', { timeout: 600_000 }, async (_, operation) => {
    const counted = await prepared(operation)
    const base = counted.bucket.clone()
    const before = counted.bucket.trace.length
    expect((await command(counted, operation.argv(), operation.env)).exitCode).toBe(0)
    const calls = callsOf(counted.bucket.trace.slice(before), []).store
    const all = [...STORE_MODES, ...LIE_MODES].flatMap((mode) => calls.filter(mode.fits).map((call) => ({ mode, call })))
    const start = createHash('sha256').update(rotatingSeed()).digest().readUInt32LE() % EVERY
    const chosen = all.filter(({ mode, call }, i) =>
      replayed === undefined ? i % EVERY === start : replayed === `${operation.name}/${mode.name}/${call.index}`,
    )
    const failures: string[] = []
    for (const { mode, call } of chosen) {
      points += 1
      try {
        await runPoint(operation, base, mode, call)
      } catch (error) {
        const point = `${operation.name}/${mode.name}/${call.index}`
        const shown = error instanceof Error ? error.message : String(error)
        failures.push(`${shown}\n  replay: HOLDFAST_SIM_POINT='${point}' npm run -s unit -- test/sim/key-points.test.ts`)
      }
    }
    violations += failures.length
    expect(failures.slice(0, 5).join('\n'), `${failures.length} of ${chosen.length} points failed`).toBe('')
  })
})

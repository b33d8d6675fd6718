// An enrolled appliance that can die: the daemon that customers run, with the real engines, on a simulated file system and a clock of its own. All that
// leaves it goes by turns. What its engines did is noted as it happens, for that is what the server's records must say in the end.
import { createHash } from 'node:crypto'
import type { Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeLog } from '@holdfast/shared/log.ts'
import { type Random, randomBelow } from '@holdfast/shared/random.ts'
import type { PutBody, Store } from '@holdfast/shared/store/store.ts'
import { runBackup } from '../../agent/backup/run.ts'
import { runCollection } from '../../agent/daemon/collection-task.ts'
import { parseAgentConfig, type AgentConfig } from '../../agent/daemon/agent-config.ts'
import { runDaemon } from '../../agent/daemon/daemon.ts'
import { realEngines } from '../../agent/daemon/engines.ts'
import type { Transport } from '../../agent/daemon/http-transport.ts'
import type { Engines, RestoreWork } from '../../agent/daemon/parts.ts'
import { CWD, type FileSystem } from '../../agent/file-system/file-system.ts'
import { change, readFile, treeOf, writeFile } from '../_support/engine-fixture.ts'
import type { Tree } from '../_support/plain-reader.ts'
import { simulatedFileSystem, type SimulatedFileSystem } from '../_support/simulated-file-system.ts'
import { SimulatedCrash } from '../_support/simulated-faults.ts'
import type { SimulatedBucket } from '../_support/simulated-store.ts'
import type { Process, Processes } from './processes.ts'
import type { SimulatedServer } from './simulated-server.ts'

export const RESTORE_ROOTS = 12
export const STATE = Buffer.from('/state')

/** In 10,000 calls of the store and requests; `fileCrash` in 100,000 calls of the file system. */
export type ApplianceChances = {
  readonly suspend: number
  readonly crash: number
  readonly fail: number
  readonly fileCrash: number
}
export const NO_APPLIANCE_CHANCES: ApplianceChances = { suspend: 0, crash: 0, fail: 0, fileCrash: 0 }

/** What happened, told by nobody but the engines' own calls. */
export type Deed = { readonly kind: 'transmission' | 'recovery'; readonly agent: string; readonly path: string; readonly size: number }
export type Witness = {
  readonly snapshot: (appliance: Appliance, id: string, tree: Tree) => void
  /** `isSure` is false where the machine died while it was journalled. */
  readonly deeds: (deeds: readonly Deed[], isSure: boolean) => void
  /** A restore is about to write. */
  readonly restores: (appliance: Appliance, work: RestoreWork) => void
}

export type Appliance = {
  readonly name: string
  readonly fs: SimulatedFileSystem
  readonly random: Random
  /** Its own clock, as whoever stands before it reads it. */
  readonly now: () => number
  readonly stepClock: (ms: number) => void
  readonly config: () => AgentConfig
  /** A process of this machine, with its clock, file system and way to the server: for the daemon, or for a command. */
  readonly process: () => Seams
  readonly boot: () => void
  readonly crash: () => void
  /** Comes up again after a crash; what was not synced is lost as the seed says, or kept. */
  readonly reboot: () => void
  /** Ends the daemon cleanly; resolves when it has ended, or when the machine dies over it. */
  readonly stop: () => Promise<void>
  readonly isUp: () => boolean
  readonly isCrashed: () => boolean
  /** A run of a policy or a restore is under way. */
  readonly isBusy: () => boolean
}

export type Seams = {
  readonly process: Process
  readonly clock: Clock
  readonly fileSystem: FileSystem
  readonly transport: Transport
  readonly store: Store
}

export function simulatedAppliance(options: {
  readonly name: string
  readonly processes: Processes
  readonly random: Random
  readonly bucket: SimulatedBucket
  readonly server: SimulatedServer
  readonly chances: () => ApplianceChances
  readonly witness: Witness
  readonly storeId: () => string
  /** The machine is off; somebody will have to start it. */
  readonly onCrash: (appliance: Appliance) => void
}): Appliance {
  const { name, processes, random, bucket, server, chances, witness } = options
  const below = (n: number): number => randomBelow(random, n)
  const fs = simulatedFileSystem({ clock: processes.clock })
  for (const path of ['/src', '/restored']) fs.makeDirectory(CWD, Buffer.from(path), 0o755)
  fs.syncAll()
  let clockOffset = 0
  let process: Process | undefined
  let stopping: AbortController | undefined
  let ended: Promise<void> | undefined
  let busy = { count: 0 }
  let died = (): void => undefined

  const crash = (): void => {
    if (fs.crashed()) return
    processes.note(`${name} crashes`)
    fs.crash()
    process?.end()
    died()
    options.onCrash(appliance)
  }
  fs.setFaults(() => {
    if (below(100_000) >= chances().fileCrash) return undefined
    crash()
    return 'crash'
  })
  const never = new Promise<never>(() => undefined)

  /** What may befall a call that leaves the machine; never comes back where the machine dies over it. */
  const befall = async (of: Process, what: string, canFail: boolean): Promise<void> => {
    if (of.isOver()) return never
    const { suspend, crash: dies, fail } = chances()
    if (below(10_000) < suspend) processes.suspend(of, suspensionMs(below))
    await processes.turn(of, what)
    const dice = below(10_000)
    if (dice < dies) {
      crash()
      return never
    }
    if (canFail && dice < dies + fail) throw new HoldfastError('store-unreachable', 'the store does not answer')
  }
  const storeOf = (of: Process): Store => {
    const inner = bucket.store(name, { remove: false })
    const around = async <T>(what: string, changes: boolean, call: () => Promise<T>): Promise<T> => {
      await befall(of, what, true)
      const result = await call()
      if (changes) await befall(of, `${what} done`, true)
      return result
    }
    return {
      location: inner.location,
      ...(inner.diagnostics === undefined ? {} : { diagnostics: inner.diagnostics }),
      put: (object, body, more) => around(`put ${object}`, true, () => inner.put(object, inMemory(fs, body), more)),
      get: (object, more) => around(`get ${object}`, false, () => inner.get(object, more)),
      getRange: (object, range, more) => around(`range ${object}`, false, () => inner.getRange(object, range, more)),
      head: (object, more) => around(`head ${object}`, false, () => inner.head(object, more)),
      async *list(prefix, more) {
        for await (const page of inner.list(prefix, more)) {
          await befall(of, `list ${prefix}`, true)
          yield page
        }
      },
      remove: (object, more) => around(`remove ${object}`, true, () => inner.remove(object, more)),
      close: () => inner.close(),
    }
  }
  const seams = (): Seams => {
    const own = processes.start(name)
    const alive = new Proxy(fs, {
      get: (target: FileSystem, property: keyof FileSystem) => {
        if (own.isOver()) throw new SimulatedCrash('the process has ended')
        return target[property]
      },
    })
    const transport: Transport = {
      send: async ({ method, path, headers, body, signal }) => {
        await befall(own, `sends ${method} ${path}`, false)
        return server.ask(own, { method, path, headers, body, signal })
      },
      close: async () => undefined,
    }
    return { process: own, clock: processes.clockOf(own, () => clockOffset), fileSystem: alive, transport, store: storeOf(own) }
  }

  const engines = ({ clock, store }: Seams, mine: { count: number }): Engines => {
    const real = realEngines({ clock, random })
    const during = async <T>(work: () => Promise<T>): Promise<T> => {
      mine.count += 1
      try {
        return await work()
      } finally {
        mine.count -= 1
      }
    }
    return {
      collect: async (...how) => {
        try {
          return await runCollection(...how)
        } catch (error) {
          processes.note(`${name} collects: ${String(error)}`)
          throw error
        }
      },
      openStore: async () => store,
      backup: (run) =>
        during(async () => {
          const tree = fs.quietly(() => treeOf(fs, ['/src']))
          const result = await runBackup({
            ...run,
            limits: { ...run.limits, workers: 0, packBytes: 6000, uploadsAtOnce: 2 },
            onTransmitted: noting('transmission', run.onTransmitted),
          })
          if (result.outcome !== 'done') throw new Error(`a backup of ${name} is ${result.outcome}`)
          witness.snapshot(appliance, result.snapshot!.ref.random, tree)
          return result
        }),
      restore: (work) =>
        during(async () => {
          witness.restores(appliance, work)
          return real.restore({ ...work, onFiles: noting('recovery', work.onFiles) })
        }),
    }
  }
  /** Tells the daemon, which journals, and then the witness. */
  const noting =
    <F extends { readonly path: Buffer; readonly size: number }>(kind: Deed['kind'], tell: ((files: readonly F[]) => void) | undefined) =>
    (files: readonly F[]): void => {
      const deeds = files.map(({ path, size }) => ({ kind, agent: name, path: path.toString('latin1'), size }))
      try {
        tell?.(files)
      } catch (error) {
        witness.deeds(deeds, false)
        throw error
      }
      witness.deeds(deeds, true)
    }

  const boot = (): void => {
    const own = seams()
    const stop = new AbortController()
    const mine = { count: 0 }
    ;[process, stopping, busy] = [own.process, stop, mine]
    processes.note(`${name} starts`)
    const running = runDaemon({
      fileSystem: own.fileSystem,
      clock: own.clock,
      random,
      stateDirectory: STATE,
      config: config(),
      transport: own.transport,
      engines: engines(own, mine),
      agentVersion: '0.1.0',
      signal: stop.signal,
      log: makeLog({ program: name, clock: own.clock, write: (line) => processes.note(`${name} says ${line.trim()}`) }),
    })
    const death = new Promise<void>((resolve) => {
      died = resolve
    })
    // A machine that died ends whatever ran; nothing else may end the daemon with an error.
    const end = running.catch((error: unknown) => {
      if (!own.process.isOver()) processes.spawn(() => Promise.reject(error))
    })
    ended = Promise.race([end, death])
  }
  const config = (): AgentConfig =>
    parseAgentConfig(
      JSON.stringify({
        host: name.replace(' ', '-'),
        sources: { documents: { paths: ['/src'], cacheDirectories: false } },
        restoreRoots: Object.fromEntries(Array.from({ length: RESTORE_ROOTS }, (_, i) => [`desk-${i}`, `/restored/${i}`])),
        stores: { [options.storeId()]: { location: 's3:https://objects.example/backup' } },
        limits: { workers: 1 },
      }),
      'agent.json',
    )

  const appliance: Appliance = {
    name,
    fs,
    random,
    now: () => processes.clock.now() + clockOffset,
    stepClock: (ms) => {
      processes.note(`the clock of ${name} steps by ${ms} ms`)
      clockOffset += ms
    },
    config,
    process: seams,
    boot,
    crash,
    reboot: () => {
      fs.reboot(below(2) === 0 ? undefined : random)
      boot()
    },
    stop: async () => {
      stopping?.abort()
      const over = process
      await ended
      over?.end()
      process = undefined
    },
    isUp: () => process !== undefined && !process.isOver(),
    isCrashed: () => fs.crashed(),
    isBusy: () => busy.count > 0,
  }
  return appliance
}

/** Mostly minutes and hours, at times days. */
function suspensionMs(below: (n: number) => number): number {
  const kind = below(10)
  return kind < 5 ? below(10 * 60_000) : kind < 8 ? below(6 * 3_600_000) : below(3 * 86_400_000)
}

/** The body as a store would read it from the spool. */
function inMemory(fs: SimulatedFileSystem, body: PutBody): PutBody {
  if (body.kind === 'bytes') return body
  const bytes = fs.quietly(() => readFile(fs, body.path.toString('latin1')))
  if (bytes === undefined || bytes.length !== body.bytes || createHash('sha256').update(bytes).digest('hex') !== body.sha256)
    throw new HoldfastError('local-disk', 'a spool file is not what was written')
  return { kind: 'bytes', bytes }
}

/** Changes some files of the source; nothing of it while a run reads them. */
export function alterSource({ fs, random }: Appliance, shared: (i: number) => Buffer, changes: number): void {
  const below = (n: number): number => randomBelow(random, n)
  const target = { fs }
  for (let i = 0; i < changes; i++) {
    const path = `/src/${below(3)}/file-${below(4)}`
    const kind = below(6)
    if (kind === 0) writeFile(target, path, Buffer.from('inline'.repeat(1 + below(4))))
    else if (kind === 1 && i > 0) change(target, () => removeFile(fs, path))
    else if (kind < 4) writeFile(target, path, shared(below(6)))
    else writeFile(target, path, random.bytes(500 + below(4000)))
  }
}

function removeFile(fs: SimulatedFileSystem, path: string): void {
  try {
    fs.remove(CWD, Buffer.from(path), 'file')
  } catch (error) {
    if (!(error instanceof Error && error.name === 'FileError')) throw error
  }
}

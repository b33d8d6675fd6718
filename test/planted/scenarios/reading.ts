// What reading demands: a check, a repair and a restore say what is so, change nothing that they need not, and lose nothing.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { parseObjectName } from '@holdfast/shared/format/layout.ts'
import { checkRepository } from '../../../agent/check/check.ts'
import { unlockRoot, wrapRoot } from '../../../agent/keys/key-object.ts'
import { makeRecoveryCode, printRecoveryCode } from '../../../agent/keys/recovery-code.ts'
import { repairRepository, type RepairReport } from '../../../agent/repair/repair.ts'
import { decodeTrailer, TRAILER_BYTES } from '../../../agent/repository/pack.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import { loadWholeView } from '../../../agent/repository/whole-view.ts'
import { restoreSnapshot, type RestoreReport } from '../../../agent/restore/restore.ts'
import { type Engine, fixtureRandom, treeOf } from '../../_support/engine-fixture.ts'
import { restorable, type Restorable } from '../../_support/restorable.ts'
import { noFaults, SimulatedCrash } from '../../_support/simulated-store.ts'
import { onPath, type SimulatedFileSystem, simulatedFileSystem } from '../../_support/simulated-file-system.ts'
import { demand, restoresTo, same, withoutTarget } from '../../sim/invariants.ts'
import { severalFiles } from '../_support/sources.ts'

const TARGET = '/restored'

async function repair(engine: Engine, more: { dryRun?: boolean } = {}): Promise<RepairReport> {
  const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure })
  return repairRepository({
    repository,
    keys: engine.keys.write,
    read: engine.keys.read,
    readData: 'all',
    dryRun: more.dryRun ?? false,
    random: engine.random,
    now: engine.clock.now(),
    signal: new AbortController().signal,
  })
}

async function restore(engine: Engine, fs: SimulatedFileSystem): Promise<RestoreReport> {
  const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure })
  const { snapshots } = await repository.listSnapshots()
  const { view } = await loadWholeView(repository)
  const snapshot = snapshots.at(-1)!
  return restoreSnapshot({ repository, view, snapshot, keys: engine.keys.read, target: Buffer.from(TARGET), workers: 0, fs })
}

const look = (engine: Engine): Promise<Restorable> => restorable(engine.bucket.store('looking'), engine.keys)

function demandKept(before: Restorable, after: Restorable, when: string): void {
  for (const [path, hash] of before.files)
    demand(after.files.get(path) === hash, `${path} could be restored before ${when}, and cannot now`)
}

/** Flips a bit of a pack: in its first segment, or in its footer. */
function flip(engine: Engine, name: string, where: 'segment' | 'footer'): void {
  engine.bucket.tamper(name, (bytes) => {
    const trailer = bytes.subarray(bytes.length - TRAILER_BYTES)
    const at =
      where === 'segment' ? 20 : decodeTrailer(trailer, parseObjectName(name)!, bytes.length, engine.keys.write.structure).footerOffset + 40
    bytes.writeUInt8(bytes[at]! ^ 8, at)
    return bytes
  })
}

/** A repair that finds one pack damaged: what it calls lost is lost, and nothing else. */
export async function repairIsExact(): Promise<void> {
  const engine = await severalFiles({ backedUp: true })
  flip(engine, engine.bucket.names('packs/')[2]!, 'segment')
  const before = await look(engine)
  const { losses } = await repair(engine)
  const after = await look(engine)
  demandKept(before, after, 'the repair')
  const id = engine.bucket.names('snapshots/')[0]!.slice(-32).slice(0, 8)
  const left = [...after.files.keys()].map((name) => name.slice(id.length + 1))
  if (losses.lost > 0 && losses.paths.length === 0)
    demand(left.length === 0, `the repair calls the whole snapshot lost, and ${left.length} files of it can be restored`)
  for (const lost of losses.paths.map(({ path }) => path.toString('latin1'))) {
    const below = lost.endsWith('/') ? lost : `${lost}/`
    const found = left.find((path) => path === lost || path.startsWith(below))
    demand(found === undefined, `the repair calls ${lost} lost, and ${found} can be restored`)
  }
}

/** Ended by a power cut at any write of the store: what could be restored before can be restored then. */
export async function repairInterrupted(): Promise<void> {
  for (let nth = 1, ended = false; !ended; nth++) {
    const engine = await severalFiles({ backedUp: true })
    const [one, two] = engine.bucket.names('packs/')
    flip(engine, one!, 'footer')
    flip(engine, two!, 'segment')
    const before = await look(engine)
    let writes = 0
    engine.setStoreFaults(({ operation }) =>
      (operation === 'put' || operation === 'remove') && ++writes === nth ? [{ kind: 'crash', when: 'after' }] : [],
    )
    try {
      await repair(engine)
      ended = true
    } catch (error) {
      if (!(error instanceof SimulatedCrash)) throw error
    }
    engine.reboot()
    demandKept(before, await look(engine), `a repair that was cut off at write ${nth}`)
  }
}

/** The store does not answer one read of a check, or of a repair: nothing is called damaged for that, and nothing changes. */
export async function storeAway(): Promise<void> {
  const engine = await severalFiles({ backedUp: true })
  const before = await look(engine)
  const reads = async (work: () => Promise<unknown>): Promise<number> => {
    let count = 0
    engine.setStoreFaults(({ operation }) => ((count += operation === 'getRange' ? 1 : 0), []))
    await work()
    engine.setStoreFaults(noFaults)
    return count
  }
  const failing = (nth: number): void => {
    let count = 0
    engine.setStoreFaults(({ operation }) =>
      operation === 'getRange' && ++count >= nth && count <= nth + 3 ? [{ kind: 'fail', when: 'before', code: 'store-unreachable' }] : [],
    )
  }
  const check = async (): Promise<number> => {
    const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure })
    return (await checkRepository({ repository, readData: 'all' })).damaged
  }
  const calls = await reads(check)
  for (let nth = 1; nth <= calls; nth++) {
    failing(nth)
    const damaged = await check()
    demand(damaged === 0, `a check in which read ${nth} was not answered calls ${damaged} objects damaged`)
  }
  for (let nth = 1; nth <= calls; nth++) {
    failing(nth)
    const { replaced, segmentsWrittenOff } = await repair(engine)
    demand(replaced + segmentsWrittenOff === 0, `a repair in which read ${nth} was not answered writes something off`)
  }
  engine.setStoreFaults(noFaults)
  demandKept(before, await look(engine), 'the store was away')
}

/** What only reads, and what only says what it would do, stores and removes nothing. */
export async function readersWriteNothing(): Promise<void> {
  const engine = await severalFiles({ backedUp: true })
  flip(engine, engine.bucket.names('packs/')[1]!, 'segment')
  const commands: Record<string, () => Promise<unknown>> = {
    check: async () => {
      const repository = await openRepository({ store: engine.store(), keys: engine.keys.write.structure })
      return checkRepository({ repository, readData: 'all' })
    },
    restore: () => restore(engine, simulatedFileSystem({ clock: engine.clock })),
    'a dry repair': () => repair(engine, { dryRun: true }),
    'a dry backup': () => engine.backup({ dryRun: true }),
    'a dry collection': () => engine.prune({ dryRun: true, acceptDamage: true }),
  }
  for (const [name, command] of Object.entries(commands)) {
    const { length } = engine.bucket.trace
    await command()
    const wrote = engine.bucket.trace.slice(length).find(({ operation }) => ['put', 'remove', 'overwrite'].includes(operation))
    demand(wrote === undefined, `${name} only reads, and makes a ${wrote?.operation} of ${wrote?.name}`)
  }
}

/** A key object cut at any length says so, and keeps no other from opening. */
export async function truncatedKey(): Promise<void> {
  const random = fixtureRandom('keys')
  const secret = { recoveryCode: printRecoveryCode(makeRecoveryCode(random)) }
  const domain = { root: random.bytes(32), domainId: random.bytes(16) }
  const bytes = await wrapRoot({ ...domain, secret, label: 'one', createdAt: 1, random })
  for (let length = 0; length < bytes.length; length++) {
    const cut = { name: 'keys/cut', bytes: bytes.subarray(0, length) }
    try {
      const { root } = await unlockRoot([cut, { name: 'keys/good', bytes }], secret)
      demand(root.equals(domain.root), 'another root came out')
    } catch (error) {
      throw new Error(`a key object cut to ${length} bytes keeps a good one from opening: ${String(error)}`, { cause: error })
    }
    try {
      await unlockRoot([cut], secret)
      demand(false, `a key object cut to ${length} bytes opens`)
    } catch (error) {
      demand(isHoldfastError(error), `a key object cut to ${length} bytes ends in ${String(error)}`)
    }
  }
}

/** The unchanged cache says that files are as they were, the store no longer has what they need. */
export async function cacheAgainstStore(): Promise<void> {
  const engine = await severalFiles({ backedUp: true })
  for (const name of engine.bucket.names('packs/').slice(0, 3)) flip(engine, name, 'segment')
  await repair(engine)
  await engine.backup()
  await restoresTo(engine, engine.source(), 'a run whose local state says more than the store has')
}

/** A file system that refuses times or owners: what is not as it was is named. */
export async function metadataRefused(): Promise<void> {
  const engine = await severalFiles({ backedUp: true })
  for (const operation of ['setTimes', 'setOwner', 'setMode'] as const) {
    const fs = simulatedFileSystem({ clock: engine.clock })
    fs.setFaults(onPath(operation, '/', 'EPERM'))
    const { problems } = await restore(engine, fs)
    fs.setFaults(() => undefined)
    if (problems.length > 0) continue
    const tree = fs.quietly(() => withoutTarget(treeOf(fs, [TARGET]), TARGET))
    same(tree, engine.source(), `a restore that names no problem, where ${operation} is refused`)
  }
}

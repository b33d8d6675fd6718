// A small repository with one of everything that a store holds: snapshots of two machines, packs with chunks, chunk lists and directory pages,
// index files of which some are merged, rosters, key objects. And what each of its snapshots must give back.
import { CWD } from '../../../agent/file-system/file-system.ts'
import { agentWriter, type DomainRoot } from '../../../agent/keys/domain.ts'
import { keyNameOf, type Secret, wrapRoot } from '../../../agent/keys/key-object.ts'
import type { Writer } from '../../../agent/keys/keys.ts'
import { makeRecoveryCode, printRecoveryCode } from '../../../agent/keys/recovery-code.ts'
import { rosterBody, rosterWriter } from '../../../agent/keys/roster.ts'
import { encodeIndexFile } from '../../../agent/repository/index-file.ts'
import { packsOf } from '../../../agent/repository/index-merge.ts'
import { objectName } from '@holdfast/shared/format/layout.ts'
import { openRepository } from '../../../agent/repository/repository.ts'
import { sealBox } from '../../../agent/repository/structure-box.ts'
import { change, type Engine, fixtureRandom, makeEngine, readFile, writeFile } from '../../_support/engine-fixture.ts'
import type { Tree } from '../../_support/plain-reader.ts'
import type { SimulatedBucket } from '../../_support/simulated-store.ts'

export const KINDS = ['repository', 'keys', 'rosters', 'sessions', 'packs', 'index', 'snapshots', 'lists'] as const
export type Kind = (typeof KINDS)[number]

export type SmallRepository = {
  readonly engine: Engine
  /** What each snapshot holds, by its id. */
  readonly trees: ReadonlyMap<string, Tree>
  /** Objects by kind; names sorted. */
  readonly objects: Readonly<Record<Kind, readonly string[]>>
  readonly root: DomainRoot
  /** What opens each key object. */
  readonly secrets: ReadonlyMap<string, Secret>
  /** A backup of what stands now onto `bucket`, as the machine does it that keeps its state. */
  readonly backUpAgain: (bucket: SimulatedBucket, seed: string) => ReturnType<Engine['backup']>
}

const SECRETS: readonly Secret[] = [{ passphrase: 'correct horse' }, { recoveryCode: '' }]

function roster(engine: Engine, number: number, writers: readonly Writer[]): [string, Buffer] {
  const { keys, clock } = engine
  const entries = writers.map((writer, i) => ({
    writerId: writer.id,
    publicKey: writer.publicKey,
    fingerprint: Buffer.alloc(20, i),
    state: 'active' as const,
    since: clock.now(),
    label: `agent ${i}`,
  }))
  const body = rosterBody({ number, madeAt: clock.now(), entries })
  const object = sealBox({ type: 'roster', keys: keys.write.structure, writer: rosterWriter(keys.signing), body })
  return [objectName('roster', { session: '0'.repeat(32), random: `${number}`.repeat(32) }), object]
}

export async function makeSmallRepository(): Promise<SmallRepository> {
  const random = fixtureRandom('small repository')
  const writers = [1, 2].map((n) => agentWriter(random.bytes(32), Buffer.alloc(16, n)))
  const engine = await makeEngine({ seed: 'small', writeKeys: (keys) => ({ ...keys.write, writer: writers[0]! }) })
  const { bucket, keys, clock } = engine
  const put = async (name: string, bytes: Buffer): Promise<void> => {
    await bucket.store('controller').put(name, { kind: 'bytes', bytes })
  }
  await put(...roster(engine, 1, writers.slice(0, 1)))
  const trees = new Map<string, Tree>()
  const back = async (machine: Engine): Promise<void> => {
    machine.pass()
    const { snapshot } = await machine.backup()
    trees.set(snapshot!.ref.random, machine.source())
  }

  // More than 64 chunks: a chunk list. Names and attributes for more than one directory page.
  const text = Array.from({ length: 9000 }, (_, i) => `line ${i} of a log that grows and compresses well`).join('\n')
  writeFile(engine, '/src/log', text)
  writeFile(engine, '/src/data', fixtureRandom('data').bytes(20_000))
  writeFile(engine, '/src/small', 'a small file')
  writeFile(engine, '/src/deep/er/file', 'x'.repeat(700))
  for (let i = 0; i < 9; i++) {
    writeFile(engine, `/src/wide/file-${i}`, `${i}`.repeat(300 + i))
    change(engine, (fs) => fs.setAttribute(CWD, Buffer.from(`/src/wide/file-${i}`), Buffer.from('user.note'), Buffer.alloc(2500, i)))
  }
  change(engine, (fs) => {
    fs.makeSymlink(CWD, Buffer.from('/src/link'), Buffer.from('deep/er'))
    fs.makeHardLink(CWD, Buffer.from('/src/data'), CWD, Buffer.from('/src/deep/same-data'))
  })
  await back(engine)
  writeFile(engine, '/src/data', fixtureRandom('other data').bytes(18_000))
  writeFile(engine, '/src/deep/er/new', fixtureRandom('new').bytes(5000))
  await back(engine)

  await put(...roster(engine, 2, writers))
  const second = await makeEngine({ seed: 'second', beside: engine, writeKeys: (all) => ({ ...all.write, writer: writers[1]! }) })
  writeFile(second, '/src/theirs', fixtureRandom('theirs').bytes(9000))
  await back(second)

  // As a run merges them; here after two runs instead of seventeen.
  const repository = await openRepository({ store: bucket.store(), keys: keys.write.structure })
  const { view } = await repository.loadView()
  const mine = view.files.filter((file) => file.writerKey.equals(writers[0]!.publicKey))
  const ref = { session: mine[0]!.ref.session, random: random.bytes(16).toString('hex') }
  const merged = { ref, replaces: mine.map((file) => file.ref), packs: mine.flatMap(packsOf) }
  await put(objectName('index', ref), encodeIndexFile(merged, keys.write.structure, writers[0]!))
  writeFile(engine, '/src/small', 'a small file, changed')
  await back(engine)

  // Forgotten and taken back: all that was ever made counts.
  const [first] = trees.keys()
  await engine.forget(first!)
  await engine.undelete(first!)

  const domain = fixtureRandom('domain')
  const root = { root: domain.bytes(32), domainId: domain.bytes(16) }
  const secrets = new Map<string, Secret>()
  for (const secret of SECRETS) {
    const used = 'passphrase' in secret ? secret : { recoveryCode: printRecoveryCode(makeRecoveryCode(random)) }
    const cost = { memoryKiB: 8192, passes: 1, lanes: 1 }
    const bytes = await wrapRoot({ ...root, secret: used, label: 'office', createdAt: clock.now(), random, cost })
    const name = `keys/${keyNameOf(bytes)}`
    secrets.set(name, used)
    await put(name, bytes)
  }

  const kept = stateFiles(engine)
  let runs = 0
  return {
    engine,
    trees,
    root,
    secrets,
    objects: {
      repository: bucket.names('repository'),
      keys: bucket.names('keys/'),
      rosters: bucket.names('rosters/'),
      sessions: bucket.names('sessions/'),
      packs: bucket.names('packs/'),
      index: bucket.names('index/'),
      snapshots: bucket.names('snapshots/'),
      lists: bucket.names('lists/'),
    },
    backUpAgain: async (on, seed) => {
      const state = `/state-${(runs += 1)}`
      for (const [name, bytes] of kept) writeFile(engine, `${state}/${name}`, bytes)
      engine.pass()
      try {
        return await engine.backup({ bucket: on, state, random: fixtureRandom(seed) })
      } finally {
        change(engine, (fs) => removeAll(fs, state))
        engine.fs.clearCalls()
      }
    },
  }
}

/** The state directory as the last run left it: an empty spool, and the cache of unchanged files. */
function stateFiles(engine: Engine): Map<string, Buffer> {
  return engine.fs.quietly(() => {
    const fd = engine.fs.open(CWD, Buffer.from('/state'), 'directory')
    const names = [...engine.fs.readDirectory(fd)].map((name) => name.toString('latin1'))
    engine.fs.close(fd)
    const isFile = (name: string): boolean => engine.fs.stat(CWD, Buffer.from(`/state/${name}`)).kind === 'file'
    return new Map(names.filter(isFile).map((name) => [name, readFile(engine.fs, `/state/${name}`)!]))
  })
}

function removeAll(fs: Engine['fs'], path: string): void {
  const fd = fs.open(CWD, Buffer.from(path, 'latin1'), 'directory')
  const names = [...fs.readDirectory(fd)]
  fs.close(fd)
  for (const name of names) {
    const below = `${path}/${name.toString('latin1')}`
    if (fs.stat(CWD, Buffer.from(below, 'latin1')).kind === 'directory') removeAll(fs, below)
    else fs.remove(CWD, Buffer.from(below, 'latin1'), 'file')
  }
  fs.remove(CWD, Buffer.from(path, 'latin1'), 'directory')
}

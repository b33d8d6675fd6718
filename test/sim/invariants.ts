// What has to hold after every step, whatever happened (invariants I1 to I12 of the reference, as far as one repository shows them). Each throws with
// what is wrong.
import type { Clock } from '@holdfast/shared/clock.ts'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { decodeCollectionList } from '@holdfast/shared/format/collection-list.ts'
import { parseObjectName } from '@holdfast/shared/format/layout.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import type { TransmittedFile } from '../../agent/backup/backup-types.ts'
import { CWD } from '../../agent/file-system/file-system.ts'
import { decodeIndexFile, INDEX_BLOB_BYTES, type IndexFile } from '../../agent/repository/index-file.ts'
import { openRepository } from '../../agent/repository/repository.ts'
import { SEGMENT_KIND } from '../../agent/repository/segment.ts'
import type { OpenedSnapshot } from '../../agent/repository/snapshot.ts'
import type { Entry } from '../../agent/repository/tree.ts'
import { loadWholeView } from '../../agent/repository/whole-view.ts'
import { restoreSnapshot } from '../../agent/restore/restore.ts'
import { type Engine, treeOf } from '../_support/engine-fixture.ts'
import type { PlainReader, Tree } from '../_support/plain-reader.ts'
import { simulatedFileSystem } from '../_support/simulated-file-system.ts'

const TARGET = '/restored'

export function demand(truth: boolean, what: string): asserts truth {
  if (!truth) throw new Error(what)
}

export function same(a: Tree, b: Tree, what: string): void {
  for (const [path, text] of b) if (a.get(path) !== text) throw new Error(`${what}: ${path} is '${a.get(path)}', not '${text}'`)
  for (const path of a.keys()) if (!b.has(path)) throw new Error(`${what}: ${path} is too much`)
}

/** The tree of every snapshot, by its id, read without the product's reader (I1). */
export function treesOf(reader: PlainReader, wanted: (id: string) => boolean = () => true): Map<string, Tree> {
  const snapshots = reader.snapshots.filter(({ structure }) => wanted(structure.ref.random))
  return new Map(snapshots.map((snapshot) => [snapshot.structure.ref.random, reader.tree(snapshot)]))
}

/** What a restore needs of a domain: its bucket and its root. */
export type Restorer = Pick<Engine, 'keys' | 'bucket'> & { readonly clock: Clock }

/** What a restore with the product came to: the tree, or why there is none that it called good. */
export type Restored = { readonly tree: Tree } | { readonly told: string }

/** Restores a snapshot, or the newest, with the product into an empty machine. An error that is not of the family is thrown. */
export async function restored(engine: Restorer, id?: string, store: Store = engine.bucket.store('restore')): Promise<Restored> {
  const fs = simulatedFileSystem({ clock: engine.clock })
  try {
    const repository = await openRepository({ store, keys: engine.keys.write.structure })
    const { snapshots } = await repository.listSnapshots()
    const snapshot: OpenedSnapshot | undefined =
      id === undefined ? snapshots.at(-1) : snapshots.find((one) => one.structure.ref.random === id)
    if (snapshot === undefined) return { told: 'the snapshot is not listed' }
    const { view } = await loadWholeView(repository)
    const report = await restoreSnapshot({
      repository,
      view,
      snapshot,
      keys: engine.keys.read,
      target: Buffer.from(TARGET),
      workers: 0,
      fs,
    })
    if (report.problems.length > 0) return { told: report.problems.map(({ code, path }) => `${path.toString('latin1')}: ${code}`).join() }
  } catch (error) {
    if (!isHoldfastError(error)) throw error
    return { told: `${error.code}: ${error.message}` }
  }
  return { tree: fs.quietly(() => withoutTarget(treeOf(fs, [TARGET]), TARGET)) }
}

/** The tree below a target as it stood at its source. */
export function withoutTarget(tree: Tree, target: string): Tree {
  const moved: Tree = new Map()
  for (const [path, text] of tree)
    if (path !== target) moved.set(path.slice(target.length), text.replace(` linked to ${target}/`, ' linked to /'))
  return moved
}

/** Without directories that only lead to what was wanted: they are made with the time of the restore. */
export function onlyWanted(tree: Tree, wanted: Tree): Tree {
  const paths = [...wanted.keys()]
  return new Map([...tree].filter(([path]) => wanted.has(path) || !paths.some((one) => one.startsWith(`${path}/`))))
}

/** Ids of the snapshots that are there and count: those that nobody has forgotten. */
export async function countingIds(engine: Engine): Promise<ReadonlySet<string>> {
  const repository = await openRepository({ store: engine.bucket.store('look'), keys: engine.keys.write.structure })
  const { snapshots } = await repository.listSnapshots()
  return new Set(snapshots.map(({ structure }) => structure.ref.random))
}

/** The trees of all snapshots as the product restores them, where only what was backed up counts. */
export async function restoredTrees(engine: Engine): Promise<Map<string, Tree>> {
  const trees = new Map<string, Tree>()
  for (const name of engine.bucket.names('snapshots/')) {
    const id = parseObjectName(name)!.random
    const result = await restored(engine, id)
    if ('told' in result) throw new Error(`snapshot ${id} does not restore: ${result.told}`)
    trees.set(id, result.tree)
  }
  return trees
}

/** A restore with the product gives exactly this tree (I1, I2). */
export async function restoresTo(engine: Restorer, wanted: Tree, what: string, id?: string, given?: Restored): Promise<void> {
  const result = given ?? (await restored(engine, id))
  if ('told' in result) throw new Error(`${what} does not restore: ${result.told}`)
  same(onlyWanted(result.tree, wanted), wanted, `the restore of ${what}`)
}

/** A restore with the product gives exactly this tree, or says that it does not: after a store that lied. */
export async function restoresOrTells(engine: Engine, wanted: Tree, what: string, id: string): Promise<void> {
  const result = await restored(engine, id)
  if ('tree' in result) same(onlyWanted(result.tree, wanted), wanted, `the restore of ${what}`)
}

/** An index file names nothing that is not in the store (I4); every snapshot's and pack's session is there. */
export function checkNames(engine: Engine, reader: PlainReader, spoilt: ReadonlySet<string>): void {
  const packs = new Set(engine.bucket.names('packs/').map((name) => name.slice(name.lastIndexOf('/') + 1)))
  const condemned = condemnedPacks(engine, spoilt)
  for (const file of reader.indexFiles)
    for (const pack of file.packs)
      demand(
        packs.has(`${pack.session}-${pack.random}`) || condemned.has(pack.random),
        `an index file names pack ${pack.random}, which is not there and was never condemned`,
      )
  const sessions = new Set(engine.bucket.names('sessions/').map((name) => name.slice('sessions/'.length)))
  for (const name of [...engine.bucket.names('packs/'), ...engine.bucket.names('snapshots/')]) {
    const session = name.slice(name.lastIndexOf('/') + 1).split('-')[0]!
    demand(sessions.has(session), `${name} was stored before its session`)
  }
}

/** Packs that any list ever condemned: what index files say of them is not believed. */
function condemnedPacks(engine: Engine, spoilt: ReadonlySet<string>): Set<string> {
  const { domainId } = engine.keys.write.structure
  const found = new Set<string>()
  for (const name of engine.bucket.names('lists/')) {
    if (name.startsWith('lists/forgets/') || spoilt.has(name)) continue
    const { list } = decodeCollectionList(engine.bucket.content(name)!, parseObjectName(name)!, domainId)
    if (list.kind === 'condemned') for (const { random } of list.packs) found.add(random)
  }
  return found
}

/** Index files that are replaced name no pack that is there and in no other one (B3): pieces of a merge are no merge. */
export function checkMerges(engine: Engine): void {
  const { structure } = engine.keys.write
  const open = (name: string): IndexFile => decodeIndexFile(engine.bucket.content(name)!, parseObjectName(name)!, structure).file
  const files = engine.bucket.names('index/').map(open)
  const replaced = new Set(files.flatMap((file) => file.replaces.map(({ random }) => random)))
  const told = new Set(files.filter(({ ref }) => !replaced.has(ref.random)).flatMap(({ packs }) => packs.map(({ random }) => random)))
  const there = new Set(engine.bucket.names('packs/').map((name) => parseObjectName(name)!.random))
  for (const file of files)
    for (const { random } of file.packs)
      demand(
        told.has(random) || !there.has(random),
        `pack ${random} stands only in index file ${file.ref.random}, which another one replaces`,
      )
}

/** No pack goes up twice; and where the disk lost nothing, no chunk is stored twice. */
export function checkUploads(engine: Engine, reader: PlainReader, kept: boolean): void {
  const puts = new Map<string, number>()
  for (const { operation, name, outcome, bytes } of engine.bucket.trace)
    if (operation === 'put' && name.startsWith('packs/') && bytes > 0 && outcome === 'ok') puts.set(name, (puts.get(name) ?? 0) + 1)
  for (const [name, count] of puts) demand(count === 1, `${name} was uploaded ${count} times`)
  if (!kept) return
  const copies = new Map<string, Set<string>>()
  for (const file of reader.indexFiles)
    for (let at = 0; at < file.blobs.length; at += INDEX_BLOB_BYTES) {
      const segment = file.segment(file.blobs.readUInt32LE(at + 32))
      if (segment.kind !== SEGMENT_KIND.chunk) continue
      const id = file.blobs.toString('hex', at, at + 32)
      const places = copies.get(id) ?? new Set()
      copies.set(id, places.add(file.packs[segment.pack]!.random))
    }
  for (const [id, places] of copies) demand(places.size === 1, `chunk ${id} was stored ${places.size} times`)
}

/** Files that were told as transmitted have all their chunks in the store, and every new file was told (O4). */
export function checkTold(reader: PlainReader, told: readonly TransmittedFile[], failed: readonly string[]): void {
  const entries = reader.entries(reader.snapshots.at(-1)!)
  const earlier = reader.snapshots.slice(0, -1).flatMap((snapshot) => [...reader.entries(snapshot).values()].flatMap(reader.chunkIds))
  const old = new Set(earlier)
  const small = new Set(
    reader.snapshots
      .slice(0, -1)
      .flatMap((snapshot) => [...reader.entries(snapshot)].map(([path, { content }]) => inlineKey(path, content))),
  )
  const paths = new Set(told.map(({ path }) => path.toString('latin1')))
  for (const path of paths) {
    const entry = entries.get(path)
    demand(entry !== undefined, `${path} was told as transmitted and is not there`)
    for (const id of reader.chunkIds(entry)) demand(reader.has(SEGMENT_KIND.chunk, id), `${path} was told and lacks chunk ${id}`)
  }
  const exempt = (path: string): boolean => failed.some((above) => path === above || path.startsWith(`${above}/`))
  for (const [path, entry] of entries) {
    const ids = reader.chunkIds(entry)
    if (entry.content?.kind === 'inline' && entry.size! > 0 && !small.has(inlineKey(path, entry.content)))
      demand(paths.has(path) || exempt(path), `${path} stands in the tree and was never told as transmitted`)
    if (ids.some((id) => !old.has(id)) && !exempt(path))
      demand(paths.has(path), `${path} has new content and was never told as transmitted`)
  }
}

function inlineKey(path: string, content: Entry['content']): string {
  return `${path} ${content?.kind === 'inline' ? content.bytes.toString('hex') : ''}`
}

/** Nothing of a run stays in the state directory but what the next one is to find. */
export function checkState(engine: Engine): void {
  demand(engine.fs.openDescriptors() === 0, `${engine.fs.openDescriptors()} descriptors stay open in the end`)
  const left = engine.fs.quietly(() => namesUnder(engine, '/state'))
  demand(!left.some((name) => /\.(part|pack|footer|tmp|new)$/.test(name)), `left in the state directory: ${left.join(' ')}`)
}

function namesUnder(engine: Engine, path: string): string[] {
  const fd = engine.fs.open(CWD, Buffer.from(path), 'directory')
  const names = engine.fs.readDirectory(fd).map((name) => name.toString('latin1'))
  engine.fs.close(fd)
  return names.flatMap((name) => (name === 'spool' ? namesUnder(engine, `${path}/spool`) : [name]))
}

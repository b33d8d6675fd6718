// The index files of a run: what its packs hold, in as few objects as the limits allow, and a merge of this writer's small ones on the way.
import { objectName, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import type { StructureKeys } from '../keys/keys.ts'
import { encodeIndexFile, INDEX_MAX_BLOBS, type PackInIndex } from '../repository/index-file.ts'
import { chooseMerge, packsOf } from '../repository/index-merge.ts'
import { decodeFooter } from '../repository/pack.ts'
import type { View } from '../repository/view.ts'
import type { BackupOptions } from './backup-types.ts'
import { readBackObject } from './read-back.ts'
import type { Session } from './session.ts'

/** What is kept of a durable pack until an index file names it: its footer as bytes, since a run may have hundreds of thousands of blobs. */
export type DurablePack = {
  readonly ref: ObjectRef
  readonly bytes: number
  readonly blobs: number
  readonly chunks: number
  readonly footerObject: Buffer
}

export type StoredIndex = { readonly written: readonly ObjectRef[]; readonly merged: readonly ObjectRef[] }

/** Stores what `packs` hold; durable when the promise resolves. Gives the names of the new index files, and of those that one of them replaces. */
export async function storeIndexFiles(
  options: BackupOptions,
  session: Session,
  packs: readonly DurablePack[],
  view: View,
): Promise<StoredIndex> {
  const { keys } = options
  const written: ObjectRef[] = []
  const write = async (members: readonly PackInIndex[], replaces: readonly ObjectRef[]): Promise<void> => {
    written.push(await storeIndexFile(options, session.id, members, replaces))
  }
  let group: DurablePack[] = []
  let blobs = 0
  const writeGroup = async (): Promise<void> => {
    if (group.length > 0)
      await write(
        group.map((pack) => inIndex(pack, keys.structure)),
        [],
      )
    group = []
    blobs = 0
  }
  for (const pack of packs) {
    if (blobs + pack.blobs > INDEX_MAX_BLOBS) await writeGroup()
    group.push(pack)
    blobs += pack.blobs
  }
  // Small index files of this writer are merged on the way: one object more, and many fewer to read for everybody.
  const merge = chooseMerge(view.files.filter((file) => file.writerKey.equals(keys.writer.publicKey)))
  await writeGroup()
  if (merge.length > 0)
    await write(
      merge.flatMap(packsOf),
      merge.map((file) => file.ref),
    )
  return { written, merged: merge.map((file) => file.ref) }
}

/** What an index file says of a durable pack. */
export function inIndex({ ref, bytes, footerObject }: DurablePack, keys: StructureKeys): PackInIndex {
  return { footer: decodeFooter(footerObject, ref, undefined, keys).footer, bytes }
}

/** Stores one index file in the name of a session of this writer, and reads it back. */
export async function storeIndexFile(
  options: BackupOptions,
  session: string,
  packs: readonly PackInIndex[],
  replaces: readonly ObjectRef[],
): Promise<ObjectRef> {
  const { keys, repository, random, signal } = options
  const ref = { session, random: random.bytes(16).toString('hex') }
  const object = encodeIndexFile({ ref, replaces, packs }, keys.structure, keys.writer)
  await repository.store.put(objectName('index', ref), { kind: 'bytes', bytes: object }, { signal })
  await readBackObject(options, objectName('index', ref), object)
  repository.remember(objectName('index', ref), object)
  return ref
}

// What can be read back of a repository with the root's keys, by the way a restore takes: every file of every snapshot that comes out whole, and what
// could not be had. And the index as a set of plain lines, so that two of them can be compared.
import { createHash } from 'node:crypto'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import type { RootKeys } from '../../agent/keys/domain.ts'
import { INDEX_BLOB_BYTES, type IndexFile } from '../../agent/repository/index-file.ts'
import { createPackReader } from '../../agent/repository/pack-reader.ts'
import { openRepository } from '../../agent/repository/repository.ts'
import { loadWholeView } from '../../agent/repository/whole-view.ts'
import { readChunkIds, walkTree } from '../../agent/restore/tree-reader.ts'

export type Restorable = {
  /** `snapshot path` to a hash of the content, for each file that comes out whole. */
  readonly files: Map<string, string>
  /** `snapshot path` of files and directories that do not. */
  readonly failed: Set<string>
}

export async function restorable(store: Store, keys: RootKeys): Promise<Restorable> {
  const repository = await openRepository({ store, keys: keys.write.structure })
  const { view } = await loadWholeView(repository)
  const reader = createPackReader({ store, structure: keys.write.structure, view, keys: keys.read })
  const found: Restorable = { files: new Map(), failed: new Set() }
  for (const { structure } of (await repository.listSnapshots()).snapshots) {
    const name = (path: Buffer): string => `${structure.ref.random.slice(0, 8)} ${path.toString('latin1')}`
    for await (const step of walkTree({ reader, root: structure.root, bounds: structure })) {
      if (step.step === 'failed') found.failed.add(name(step.directory.path))
      if (step.step !== 'entries') continue
      for (const entry of step.entries) {
        if (entry.kind !== 'file') continue
        const path = name(
          Buffer.concat([step.directory.path.length === 1 ? Buffer.alloc(0) : step.directory.path, Buffer.from('/'), entry.name]),
        )
        const hash = createHash('sha256')
        if (entry.content?.kind === 'inline') hash.update(entry.content.bytes)
        try {
          for await (const ids of readChunkIds(reader, entry)) for (const id of ids) hash.update(await reader.readChunk(id))
          found.files.set(path, hash.digest('hex'))
        } catch (error) {
          if (!isHoldfastError(error, 'damaged', 'not-found')) throw error
          found.failed.add(path)
        }
      }
    }
  }
  return found
}

/** Every blob that index files name, once: kind, id, pack, place. */
export function claimsOf(files: readonly IndexFile[]): string[] {
  const lines = new Set<string>()
  for (const file of files)
    for (let at = 0; at < file.blobs.length; at += INDEX_BLOB_BYTES) {
      const { kind, pack, offset, sealedBytes } = file.segment(file.blobs.readUInt32LE(at + 32))
      const id = file.blobs.toString('hex', at, at + 32)
      lines.add(
        `${kind} ${id} ${file.packs[pack]!.random} ${offset}+${sealedBytes} ${file.blobs.readUInt32LE(at + 36)}+${file.blobs.readUInt32LE(at + 40)}`,
      )
    }
  return [...lines].sort()
}

// Walks the trees of snapshots as a restore would, with the root's keys: every private part opens and fits its reference part, names are in order, and
// the chunks of every file add up to its length. Each directory once, whatever snapshots share it. Chunks themselves are opened where packs are read.
import { HoldfastError, isHoldfastError, printable } from '@holdfast/shared/errors.ts'
import type { PackReader } from '../repository/pack-reader.ts'
import { type Entry, totalBytes } from '../repository/tree.ts'
import { readChunkIds, readDirectory } from '../restore/tree-reader.ts'
import { SeenIds } from '../repository/seen-ids.ts'

export class ContentWalk {
  readonly #seen = new SeenIds()
  readonly #reader: PackReader
  readonly #signal: AbortSignal | undefined
  files = 0

  constructor(reader: PackReader, signal?: AbortSignal) {
    this.#reader = reader
    this.#signal = signal
  }

  /** Tells of each directory and file that does not read; throws `cancelled` alone. */
  async walk(root: string, tell: (path: string, error: HoldfastError) => void): Promise<void> {
    const pending = [{ path: Buffer.alloc(0), node: root }]
    for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
      const { path, node } = directory
      if (!this.#seen.add(node)) continue
      await this.#attempt(path, tell, async () => {
        for await (const page of readDirectory(this.#reader, node, this.#signal))
          for (const entry of page) {
            const below = Buffer.concat([path, Buffer.from('/'), entry.name])
            if (entry.kind === 'directory') pending.push({ path: below, node: entry.node! })
            else if (entry.kind === 'file') await this.#attempt(below, tell, () => this.#file(entry))
          }
      })
    }
  }

  async #attempt(path: Buffer, tell: (path: string, error: HoldfastError) => void, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (!isHoldfastError(error) || error.code === 'cancelled') throw error
      tell(path.length === 0 ? '/' : printable(path.toString()), error)
    }
  }

  async #file(entry: Entry): Promise<void> {
    this.files += 1
    const { content, extents, size = 0 } = entry
    let bytes = content?.kind === 'inline' ? content.bytes.length : 0
    for await (const ids of readChunkIds(this.#reader, entry, this.#signal))
      for (const id of ids) {
        const place = this.#reader.locate(id, 'chunk')[0]
        // That a chunk is in no pack is told with what is lost.
        if (place === undefined) return
        bytes += place.bytes
      }
    if (bytes !== (extents === undefined ? size : totalBytes(extents)))
      throw new HoldfastError('damaged', 'its chunks do not have the length of the file')
  }
}

// Names that a restore gives to what it makes, where they stand in a snapshot too: somebody backed up the target of a restore that was
// interrupted, or means harm. Such a file gets its own name back, unless another of its directory needs that very name to be made under: then
// it would be taken for a leftover and removed.
import { isVerdict, type PackReader } from '../repository/pack-reader.ts'
import { besideName, isMark, isOfRestores, temporaryName } from './decide.ts'
import { readDirectory } from './tree-reader.ts'

/** A restore leaves few behind; where there are more of them in one directory, none is looked at closely. */
const MOST = 1000

/**
 * True for names of the directory at tree node `node` that may not be used there. Reads the directory twice, for which there is a reason in hardly
 * any. Where it cannot be read whole, none of them may be used.
 */
export async function namesInUse(options: {
  reader: PackReader
  node: string
  snapshotId: string
  /** It becomes the target itself, where a mark, of whatever snapshot, would be believed. */
  isTop: boolean
  signal?: AbortSignal | undefined
}): Promise<(name: Buffer) => boolean> {
  const { reader, node, snapshotId, isTop, signal } = options
  const own = new Set<string>()
  const used = new Set<string>()
  try {
    for await (const page of readDirectory(reader, node, signal))
      for (const { name } of page) if (own.size <= MOST && isOfRestores(name)) own.add(name.toString('latin1'))
    if (own.size > MOST) return () => true
    for await (const page of readDirectory(reader, node, signal))
      for (const { name } of page)
        for (const made of [temporaryName(name), temporaryName(besideName(name, snapshotId, 1))]) {
          const text = made.toString('latin1')
          if (own.has(text)) used.add(text)
        }
  } catch (error) {
    if (!isVerdict(error)) throw error
    return () => true
  }
  return (name) => (isTop && isMark(name)) || used.has(name.toString('latin1'))
}

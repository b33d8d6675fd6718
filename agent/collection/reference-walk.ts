// Walks of a tree by its reference parts alone, so that whoever has the structure key can tell what a snapshot needs (design sections 3 and 7).
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { PackReader } from '../repository/pack-reader.ts'
import { SeenIds } from '../repository/seen-ids.ts'
import type { Reference } from '../repository/tree.ts'
import type { BlobPart } from '../repository/view.ts'

/**
 * The nodes at and below `root` that cannot be relied on: a part of them, or something that they reach, is not there by what `isThere` says. With
 * `untilFirst` the walk ends at the first thing that is not there, and the answer holds at least one node then. A node that does not open counts as
 * not there; a store that does not answer throws.
 */
export async function unsoundNodes(options: {
  reader: Pick<PackReader, 'readReferences'>
  root: string
  isThere: (id: string, part: BlobPart) => boolean
  untilFirst?: boolean
  signal?: AbortSignal | undefined
}): Promise<Set<string>> {
  const { reader, root, isThere, signal } = options
  const unsound = new Set<string>()
  const seen = new SeenIds()
  // Each open node with what is left of its references: children end before their parents, so that a verdict is there when it is asked for.
  const open: { id: string; references: readonly Reference[]; next: number; sound: boolean }[] = []
  const enter = async (id: string): Promise<void> => {
    if (!seen.add(id)) return
    if (!isThere(id, 'private') || !isThere(id, 'references')) return void unsound.add(id)
    try {
      const { references } = await reader.readReferences(id, signal)
      open.push({ id, references, next: 0, sound: true })
    } catch (error) {
      if (!isHoldfastError(error, 'damaged', 'not-found')) throw error
      unsound.add(id)
    }
  }
  await enter(root)
  while (open.length > 0) {
    if (options.untilFirst === true && (unsound.size > 0 || !open.at(-1)!.sound)) {
      unsound.add(open.at(-1)!.id)
      return unsound
    }
    const node = open.at(-1)!
    const reference = node.references[node.next]
    if (reference === undefined) {
      open.pop()
      if (!node.sound) unsound.add(node.id)
      const parent = open.at(-1)
      if (parent !== undefined && !node.sound) parent.sound = false
      continue
    }
    node.next += 1
    if (reference.what === 'chunk') {
      if (!isThere(reference.id, 'chunk')) node.sound = false
      continue
    }
    await enter(reference.id)
    if (unsound.has(reference.id)) node.sound = false
  }
  return unsound
}

// The Merkle tree of RFC 6962 section 2.1 over SHA-256: tree hash, inclusion path and its check.
// Leaves are hashed with 0x00 in front, nodes with 0x01, so that a node can never pass for a leaf.
import { hash, timingSafeEqual } from 'node:crypto'

/** SHA-256(0x00 || data). */
export function leafHash(data: Uint8Array): Buffer {
  const input = Buffer.allocUnsafe(1 + data.length)
  input[0] = 0
  input.set(data, 1)
  return hash('sha256', input, 'buffer')
}

/** SHA-256(0x01 || left || right). */
export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  const input = Buffer.allocUnsafe(1 + left.length + right.length)
  input[0] = 1
  input.set(left, 1)
  input.set(right, 1 + left.length)
  return hash('sha256', input, 'buffer')
}

/** MTH over leaf data in order; of no leaves it is SHA-256 of nothing. */
export function treeHash(leaves: readonly Uint8Array[]): Buffer {
  return treeHashOfHashes(leaves.map((leaf) => leafHash(leaf)))
}

/** MTH where the leaves are hashed already. Pairs of one level at a time give the same tree as the recursive definition. */
export function treeHashOfHashes(leafHashes: readonly Buffer[]): Buffer {
  if (leafHashes.length === 0) return hash('sha256', '', 'buffer')
  let level = leafHashes
  while (level.length > 1) level = parents(level)
  return level[0]!
}

/** PATH(index, leaves): the hashes that lead from a leaf to the root, lowest first. */
export function inclusionPath(index: number, leafHashes: readonly Buffer[]): Buffer[] {
  if (!Number.isInteger(index) || index < 0 || index >= leafHashes.length)
    throw new RangeError(`no leaf ${index} among ${leafHashes.length}`)
  const path: Buffer[] = []
  let level = leafHashes
  for (let at = index; level.length > 1; at = Math.floor(at / 2)) {
    const sibling = level[at % 2 === 0 ? at + 1 : at - 1]
    if (sibling !== undefined) path.push(sibling)
    level = parents(level)
  }
  return path
}

/** True where `path` leads from leaf `index` of `size` to `root`; the check of RFC 9162 section 2.1.3.2. Any malformed input is false. */
export function verifyInclusion(proof: {
  index: number
  size: number
  leafHash: Uint8Array
  path: readonly Uint8Array[]
  root: Uint8Array
}): boolean {
  const { index, size, root } = proof
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) return false
  if (proof.leafHash.length !== 32 || root.length !== 32 || proof.path.some((hash) => hash.length !== 32)) return false
  let at = index
  let last = size - 1
  let hash: Uint8Array = proof.leafHash
  for (const step of proof.path) {
    if (last === 0) return false
    if (at % 2 === 1 || at === last) {
      hash = nodeHash(step, hash)
      while (at % 2 === 0 && at !== 0) {
        at = Math.floor(at / 2)
        last = Math.floor(last / 2)
      }
    } else {
      hash = nodeHash(hash, step)
    }
    at = Math.floor(at / 2)
    last = Math.floor(last / 2)
  }
  return last === 0 && timingSafeEqual(hash, root)
}

/** A node without a sibling moves up unchanged: the largest power of two below n splits the tree exactly so. */
function parents(level: readonly Buffer[]): Buffer[] {
  const up: Buffer[] = []
  for (let i = 0; i < level.length; i += 2) {
    const left = level[i]!
    const right = level[i + 1]
    up.push(right === undefined ? left : nodeHash(left, right))
  }
  return up
}

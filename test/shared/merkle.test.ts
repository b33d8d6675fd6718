// The Merkle tree against the published vectors of RFC 6962's reference tests, and every proof of every size to 70.
import { describe, expect, it } from 'vitest'
import { inclusionPath, leafHash, nodeHash, treeHash, treeHashOfHashes, verifyInclusion } from '@holdfast/shared/merkle.ts'

const LEAVES = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'].map((hex) =>
  Buffer.from(hex, 'hex'),
)
const ROOTS = [
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
]

describe('the tree', () => {
  it.each(ROOTS.map((root, size) => [size, root] as const))('of %d published leaves has the published root', (size, root) => {
    expect(treeHash(LEAVES.slice(0, size)).toString('hex')).toBe(root)
  })

  it('is the recursive tree of the RFC for every size', () => {
    const mth = (hashes: readonly Buffer[]): Buffer => {
      if (hashes.length === 1) return hashes[0]!
      const split = 2 ** Math.floor(Math.log2(hashes.length - 1))
      return nodeHash(mth(hashes.slice(0, split)), mth(hashes.slice(split)))
    }
    const hashes = many(70)
    for (let size = 1; size <= 70; size++) expect(treeHashOfHashes(hashes.slice(0, size))).toEqual(mth(hashes.slice(0, size)))
  })
})

describe('an inclusion path', () => {
  it('proves its own leaf at its own place in its own tree, and nothing else', () => {
    for (let size = 1; size <= 40; size++) {
      const hashes = many(size)
      const root = treeHashOfHashes(hashes)
      for (let index = 0; index < size; index++) {
        const proof = { index, size, leafHash: hashes[index]!, path: inclusionPath(index, hashes), root }
        expect(verifyInclusion(proof)).toBe(true)
        expect(verifyInclusion({ ...proof, leafHash: leafHash(Buffer.from('other')) })).toBe(false)
        expect(verifyInclusion({ ...proof, path: [...proof.path, root] })).toBe(false)
        if (proof.path.length > 0) expect(verifyInclusion({ ...proof, path: proof.path.slice(1) })).toBe(false)
        for (let other = 0; other < size; other++) if (other !== index) expect(verifyInclusion({ ...proof, index: other })).toBe(false)
      }
    }
  })

  it.each([-1, 3, 1.5, Number.NaN])('of leaf %d of 3 is refused', (index) => {
    expect(verifyInclusion({ index, size: 3, leafHash: many(1)[0]!, path: [], root: many(1)[0]! })).toBe(false)
    expect(() => inclusionPath(index, many(3))).toThrow(RangeError)
  })
})

function many(size: number): Buffer[] {
  return Array.from({ length: size }, (_, i) => leafHash(Buffer.from([i])))
}

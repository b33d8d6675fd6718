// What a restore does to an entry, given what already stands at its name: the decisions alone, without a file.
import { describe, expect, it } from 'vitest'
import {
  besideName,
  contentBytes,
  decide,
  decideCompared,
  isMark,
  isOfRestores,
  markName,
  mayBeTorn,
  type Overwrite,
  temporaryName,
} from '../../../agent/restore/decide.ts'
import type { Entry, Extent } from '../../../agent/repository/tree.ts'

const RULES: readonly Overwrite[] = ['beside', 'changed', 'always', 'never']
const file = (size: number) => ({ kind: 'file', size }) as const
const directory = { kind: 'directory', size: 0 } as const

describe('an entry of a restore', () => {
  it('is written where nothing stands, whatever the rule', () => {
    for (const rule of RULES) expect(decide(file(1), undefined, rule)).toBe('write')
  })

  it('that is a directory goes into the directory that stands there, whatever the rule', () => {
    for (const rule of RULES) expect(decide(directory, directory, rule)).toBe('enter')
  })

  it.each([
    ['beside', 'compare', 'beside', 'beside'],
    ['changed', 'compare', 'replace', 'replace'],
    ['always', 'replace', 'replace', 'replace'],
    ['never', 'keep', 'keep', 'keep'],
  ] as const)('over a file under the rule %s: of the same size %s, of another %s, over a link %s', (rule, same, other, link) => {
    expect(decide(file(5), file(5), rule)).toBe(same)
    expect(decide(file(5), file(6), rule)).toBe(other)
    expect(decide(file(5), { kind: 'symlink', size: 5 }, rule)).toBe(link)
  })

  it('never takes a directory away that is in the way of something else', () => {
    for (const rule of ['beside', 'changed', 'always'] as const) expect(decide(file(0), directory, rule)).toBe('beside')
    expect(decide(file(0), directory, 'never')).toBe('keep')
  })

  it('that is a directory does not go into a file or through a link', () => {
    for (const existing of [file(0), { kind: 'symlink', size: 0 } as const]) {
      expect(RULES.map((rule) => decide(directory, existing, rule))).toEqual(['beside', 'replace', 'replace', 'keep'])
    }
  })

  it('is compared where only a file’s size could differ and does not, and links are compared whatever their size', () => {
    expect(decide({ kind: 'symlink', size: 3 }, { kind: 'symlink', size: 9 }, 'changed')).toBe('compare')
  })

  it('with the same content is kept, with another is treated by the rule', () => {
    expect(RULES.map((rule) => decideCompared(true, file(1), rule))).toEqual(['keep', 'keep', 'keep', 'keep'])
    expect(RULES.map((rule) => decideCompared(false, file(1), rule))).toEqual(['beside', 'replace', 'replace', 'keep'])
    expect(RULES.map((rule) => decideCompared(false, directory, rule))).toEqual(['beside', 'beside', 'beside', 'keep'])
  })
})

describe('a file that an interrupted restore may have left', () => {
  const entry = { kind: 'file', mtimeNs: 7n, size: 10 } as const
  it('has the time of the entry and no more bytes than it', () => {
    for (const size of [0, 9, 10]) expect(mayBeTorn(entry, { ...entry, size })).toBe(true)
    expect(mayBeTorn(entry, { ...entry, size: 11 })).toBe(false)
    expect(mayBeTorn(entry, { ...entry, mtimeNs: 8n })).toBe(false)
  })

  it('is a file, for an entry that is a file', () => {
    expect(mayBeTorn(entry, { ...entry, kind: 'symlink' })).toBe(false)
    expect(mayBeTorn({ ...entry, kind: 'symlink' }, entry)).toBe(false)
    expect(mayBeTorn({ kind: 'file', mtimeNs: 7n }, { ...entry, size: 0 })).toBe(true)
    expect(mayBeTorn({ kind: 'file', mtimeNs: 7n }, { ...entry, size: 1 })).toBe(false)
  })
})

describe('a name of restores', () => {
  const id = '0123456789abcdef'.repeat(2)

  it('is told from every other name, also from one that only holds it', () => {
    expect(isOfRestores(temporaryName(Buffer.from('a')))).toBe(true)
    expect(isOfRestores(markName(id))).toBe(true)
    for (const name of ['a', '.holdfast-restore-', `.holdfast-restore-${'a'.repeat(17)}`, `.holdfast-restore-${'g'.repeat(16)}`]) {
      expect(isOfRestores(Buffer.from(name))).toBe(false)
    }
    expect([markName(id), temporaryName(Buffer.from('a')), Buffer.from('a'), Buffer.alloc(50, 'a')].map(isMark)).toEqual([
      true,
      false,
      false,
      false,
    ])
    expect(temporaryName(Buffer.from('a')).toString()).toBe('.holdfast-restore-ca978112ca1bbdca')
    expect(markName(id).toString()).toBe(`.holdfast-restore-${id}`)
    expect(isOfRestores(Buffer.from(`x.holdfast-restore-${id}`))).toBe(false)
    expect(isOfRestores(Buffer.from(`.holdfast-restore-${id}x`))).toBe(false)
    expect(isOfRestores(Buffer.from(`xholdfast-restore-${id}`))).toBe(false)
  })

  it('beside an entry holds the snapshot and the try, and stays within the 255 bytes of a name', () => {
    expect(besideName(Buffer.from('a'), id, 1).toString()).toBe('a.restored-01234567')
    expect(besideName(Buffer.from('a'), id, 2).toString()).toBe('a.restored-01234567-2')
    const long = besideName(Buffer.alloc(255, 'n'), id, 12)
    expect(long).toHaveLength(255)
    expect(long.toString()).toMatch(/n\.restored-01234567-12$/)
  })

  it('is the same at every try for one entry and another for another', () => {
    expect(temporaryName(Buffer.from('a'))).toEqual(temporaryName(Buffer.from('a')))
    expect(temporaryName(Buffer.from('a'))).not.toEqual(temporaryName(Buffer.from('b')))
  })
})

it('an entry brings the bytes of its extents, not those of its holes, and what is no file brings none', () => {
  const extents: readonly Extent[] = [
    { offset: 10, bytes: 5 },
    { offset: 50, bytes: 20 },
  ]
  const entry = { kind: 'file', size: 100 } as Entry
  expect(contentBytes(entry)).toBe(100)
  expect(contentBytes({ ...entry, extents })).toBe(25)
  expect(contentBytes({ kind: 'file' } as Entry)).toBe(0)
  expect(contentBytes({ ...entry, kind: 'directory' })).toBe(0)
})

// What of a snapshot is wanted: a path or token selects itself and all below, leads to it, and nothing else; what matched nothing is told.
import { describe, expect, it } from 'vitest'
import { createTokens } from '../../../agent/repository/snapshot.ts'
import { createSelector, type Selection } from '../../../agent/restore/selection.ts'

const recordKey = Buffer.alloc(32, 1)
const bytes = (text: string): Buffer => Buffer.from(text, 'latin1')
const paths = (...all: string[]): Selection => ({ kind: 'paths', paths: all.map(bytes) })

/** What is chosen of paths; those that end with `/` are directories. */
function chosen(selection: Selection, ...all: string[]): { choices: string[]; unmatched: string[] } {
  const selector = createSelector(selection, recordKey)
  const choices = all.map((path) => selector.choose(bytes(path === '/' ? path : path.replace(/\/$/, '')), path.endsWith('/')))
  return { choices, unmatched: selector.unmatched().map((path) => path.toString('latin1')) }
}

describe('a whole selection', () => {
  it('takes everything and lacks nothing', () => {
    expect(chosen({ kind: 'whole' }, '/', '/a/', '/a/b')).toEqual({ choices: ['take', 'take', 'take'], unmatched: [] })
  })
})

describe('a selection of paths', () => {
  it('takes what is named, leads to it through the directories above, and skips all else', () => {
    expect(chosen(paths('/a/b/c', '/d'), '/', '/a/', '/a/b/', '/a/b/c', '/d/', '/e/', '/a/x', '/a/b/c2', '/a/b')).toEqual({
      choices: ['lead', 'lead', 'lead', 'take', 'take', 'skip', 'skip', 'skip', 'skip'],
      unmatched: [],
    })
  })

  it('is the same with slashes more or fewer', () => {
    expect(chosen(paths('//a///b/'), '/a/', '/a/b')).toEqual({ choices: ['lead', 'take'], unmatched: [] })
    expect(chosen(paths('/'), '/', '/x')).toEqual({ choices: ['take', 'skip'], unmatched: [] })
    expect(chosen(paths('///'), '/').choices).toEqual(['take'])
  })

  it('counts what lies below a directory that is taken as found, and tells what nothing matched', () => {
    expect(chosen(paths('/a', '/a/b', '/ab', '/c'), '/', '/a/')).toEqual({ choices: ['lead', 'take'], unmatched: ['/ab', '/c'] })
    expect(chosen(paths('/', '/a', '/b/c'), '/').unmatched).toEqual([])
    expect(chosen(paths('/a\xff'), '/').unmatched).toEqual(['/a\xff'])
    expect(chosen(paths('/a', '/b'), '/a').unmatched).toEqual(['/b'])
    // A file that is only above a wanted path leads nowhere.
    expect(chosen(paths('/a/b'), '/a')).toEqual({ choices: ['skip'], unmatched: ['/a/b'] })
  })

  it.each(['', 'a', 'a/b', '/a/../b', '/./a', '/..', '/a/.', '/a\0b', `/${'n'.repeat(256)}`])(
    'refuses %j, which is no absolute path of names',
    (path) => {
      expect(() => createSelector(paths('/good', path), recordKey)).toThrow(
        expect.objectContaining({ code: 'usage', message: expect.stringMatching(/is no absolute path without '\.' and '\.\.'/) }),
      )
    },
  )

  it('takes names that only look like that', () => {
    expect(chosen(paths('/..a', '/...'), '/..a', '/...')).toEqual({ choices: ['take', 'take'], unmatched: [] })
  })
})

describe('a selection of tokens', () => {
  it('takes the paths of its tokens, looks into every directory, and tells what nothing matched', () => {
    const tokens = createTokens(recordKey)
    const [a, b] = ['/a', '/b/c'].map((path) => tokens.path(bytes(path))) as [string, string]
    expect(chosen({ kind: 'tokens', tokens: new Set([a, b]) }, '/', '/a/', '/b/', '/b/x', '/b/c/y')).toEqual({
      choices: ['look', 'take', 'look', 'skip', 'skip'],
      unmatched: [b],
    })
    expect(chosen({ kind: 'tokens', tokens: new Set([a, b]) }, '/b/c', '/a')).toEqual({ choices: ['take', 'take'], unmatched: [] })
    const foreign = createTokens(Buffer.alloc(32, 2)).path(bytes('/a'))
    expect(chosen({ kind: 'tokens', tokens: new Set([foreign]) }, '/a/').choices).toEqual(['look'])
  })
})

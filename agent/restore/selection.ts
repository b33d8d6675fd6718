// What of a snapshot is wanted: everything, absolute paths, or tokens of paths, which is all that the control server ever sees (design
// section 8). A path or token of a directory selects everything below it.
import { hash } from 'node:crypto'
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import { createTokens } from '../repository/snapshot.ts'
import { isEntryName } from '../repository/tree.ts'
import type { Chooser } from './tree-reader.ts'

export type Selection =
  | { readonly kind: 'whole' }
  /** Absolute, as they were when they were backed up. */
  | { readonly kind: 'paths'; readonly paths: readonly Buffer[] }
  /** Path tokens in lower-case hex. */
  | { readonly kind: 'tokens'; readonly tokens: ReadonlySet<string> }

export type Selector = {
  readonly choose: Chooser
  /** Paths, or tokens as text, that nothing in the snapshot matched so far. */
  readonly unmatched: () => Buffer[]
}

/** An absolute path without empty parts, as latin1. Throws `usage` for one that is relative or holds `.` or `..`. */
function normalized(path: Buffer): string {
  const refuse = (): HoldfastError =>
    new HoldfastError(
      'usage',
      `'${printable(path.toString())}' is no absolute path without '.' and '..': name it as 'holdfast ls' shows it`,
    )
  if (path[0] !== 0x2f) throw refuse()
  const parts = path
    .toString('latin1')
    .split('/')
    .filter((part) => part !== '')
  if (!parts.every((part) => isEntryName(Buffer.from(part, 'latin1')))) throw refuse()
  return `/${parts.join('/')}`
}

/** A name that tells one selection from another; undefined for everything. */
export function nameOf(selection: Selection): string | undefined {
  if (selection.kind === 'whole') return undefined
  const parts = selection.kind === 'tokens' ? [...selection.tokens] : selection.paths.map(normalized)
  return hash('sha256', `${selection.kind}\0${[...new Set(parts)].sort().join('\0')}`, 'hex').slice(0, 32)
}

/** Decides for each path of a walk. `recordKey` is needed for tokens alone. */
export function createSelector(selection: Selection, recordKey: Buffer): Selector {
  if (selection.kind === 'whole') return { choose: () => 'take', unmatched: () => [] }
  if (selection.kind === 'tokens') {
    const missing = new Set(selection.tokens)
    const { path: tokenOf } = createTokens(recordKey)
    return {
      choose: (path, isDirectory) => {
        const token = tokenOf(path)
        if (!selection.tokens.has(token)) return isDirectory ? 'look' : 'skip'
        missing.delete(token)
        return 'take'
      },
      unmatched: () => [...missing].map((token) => Buffer.from(token)),
    }
  }
  const wanted = new Set(selection.paths.map(normalized))
  const missing = new Set(wanted)
  const above = new Set<string>(['/'])
  for (const path of wanted) for (let end = path.indexOf('/', 1); end > 0; end = path.indexOf('/', end + 1)) above.add(path.slice(0, end))
  return {
    choose: (path, isDirectory) => {
      const text = path.toString('latin1')
      if (wanted.has(text)) {
        // What lies below a selected directory is taken with it and never asked about.
        for (const other of missing) if (other === text || text === '/' || other.startsWith(`${text}/`)) missing.delete(other)
        return 'take'
      }
      return isDirectory && above.has(text) ? 'lead' : 'skip'
    },
    unmatched: () => [...missing].map((path) => Buffer.from(path, 'latin1')),
  }
}

// Colour, where the reader is a terminal that wants it: NO_COLOR (any value but empty) and TERM=dumb switch it off, FORCE_COLOR is not obeyed.
import type { Environment } from '../config.ts'

export type Style = {
  readonly bold: (text: string) => string
  readonly dim: (text: string) => string
  readonly good: (text: string) => string
  readonly warn: (text: string) => string
  readonly bad: (text: string) => string
}

const same = (text: string): string => text
const PLAIN: Style = { bold: same, dim: same, good: same, warn: same, bad: same }
const code =
  (on: number, off: number) =>
  (text: string): string =>
    text === '' ? '' : `\u001b[${on}m${text}\u001b[${off}m`
const COLOURED: Style = { bold: code(1, 22), dim: code(2, 22), good: code(32, 39), warn: code(33, 39), bad: code(31, 39) }

export function styleFor(writer: { readonly isTerminal: boolean }, env: Environment): Style {
  const refused = (env['NO_COLOR'] ?? '') !== '' || env['TERM'] === 'dumb'
  return writer.isTerminal && !refused ? COLOURED : PLAIN
}

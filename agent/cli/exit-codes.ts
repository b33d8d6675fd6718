// Exit codes, the same with and without --json, in one table that help prints.
import type { CommandOutcome } from './events.ts'

export const EXIT_OF: Readonly<Record<Exclude<CommandOutcome, 'failed' | 'interrupted'>, number>> = {
  done: 0,
  unchanged: 0,
  incomplete: 3,
  damaged: 4,
}

export const EXIT_CODES: readonly (readonly [number, string])[] = [
  [0, 'done'],
  [1, 'failed: nothing was changed that the message does not name'],
  [2, 'usage: an option, argument, variable or configuration key is wrong'],
  [3, 'done, but incomplete: some files could not be read or restored as they were'],
  [4, 'damage found'],
  [10, 'no repository there, or one of a newer format'],
  [12, 'wrong passphrase, recovery code or key'],
  [14, 'store or server unreachable, full or refusing'],
  [15, 'refused by policy: unsuitable store, missing grant, full journal'],
  [130, 'interrupted; a backup resumes where it was when it is run again'],
]

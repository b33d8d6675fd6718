// The daemon and a full disk of its own. What it cannot keep it must not know either, so it ends there, as in a crash; and it begins anew by itself, so
// that making room is all that a person has to do.
import type { Clock } from '@holdfast/shared/clock.ts'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Log } from '@holdfast/shared/log.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { backoff } from './backoff.ts'
import { isErrno } from './state-directory.ts'

const LONG_ENOUGH_MS = 60_000

export type FullDiskParts = { readonly clock: Clock; readonly random: Random; readonly log: Log; readonly signal: AbortSignal }

/** Runs `run` again, after a second and later after up to a minute, for as long as it ends for want of room on the disk. Passes everything else on. */
export async function throughFullDisks({ clock, random, log, signal }: FullDiskParts, run: () => Promise<void>): Promise<void> {
  const again = backoff(random, { firstMs: 1000, mostMs: 60_000 })
  for (;;) {
    const began = clock.monotonicMs()
    try {
      return await run()
    } catch (error) {
      if (signal.aborted || !isWantOfRoom(error)) throw error
      if (clock.monotonicMs() - began > LONG_ENOUGH_MS) again.reset()
      log.error('disk-full', { message: 'the disk of the state directory is full; nothing is begun there until some space is free' })
      await clock.sleep(again.next(), signal)
    }
  }
}

function isWantOfRoom(error: unknown): boolean {
  return isHoldfastError(error, 'local-disk', 'journal-full') && isErrno(error.cause, 'ENOSPC', 'EDQUOT')
}

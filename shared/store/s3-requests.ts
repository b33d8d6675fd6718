// Runs single S3 requests: watched, retried with backoff, and answered with the store's own errors.
import type { Clock } from '../clock.ts'
import { HoldfastError } from '../errors.ts'
import type { Random } from '../random.ts'
import { cancelled, throwIfAborted } from './checks.ts'
import type { RetryPolicy } from './retry.ts'
import { backoffMs } from './retry.ts'
import type { S3Verdict } from './s3-errors.ts'
import { judgeFailure, verdictError } from './s3-errors.ts'
import { TransferWatch } from './transfer-watch.ts'

export type RequestSettings = {
  readonly clock: Clock
  readonly random: Random
  readonly retry: RetryPolicy
  readonly stallMs: number
}

/**
 * Calls `once` until it succeeds, fails for good, or the tries are used up. `what` names the object for the error's text.
 * Errors of the product's own pass through: they are decisions, not accidents.
 */
export async function runRequest<T>(
  settings: RequestSettings,
  request: { readonly act: string; readonly what: string; readonly signal: AbortSignal | undefined },
  once: (watch: TransferWatch, attempt: number) => Promise<T>,
): Promise<T> {
  const { signal } = request
  for (let attempt = 1; ; attempt++) {
    throwIfAborted(signal)
    const watch = new TransferWatch(settings.clock, settings.stallMs, signal)
    let verdict: S3Verdict
    try {
      return await once(watch, attempt)
    } catch (error) {
      if (signal?.aborted === true) throw cancelled(signal)
      if (error instanceof HoldfastError) throw error
      verdict = watch.stalled ? { kind: 'retry', afterMs: 0, why: `no byte moved for ${settings.stallMs} ms` } : judgeFailure(error)
      const again = verdict.kind === 'retry' ? attempt < settings.retry.attempts : verdict.kind === 'clock' && attempt === 1
      if (!again) throw verdictError(verdict, request.act, request.what, error)
    } finally {
      watch.stop()
    }
    await pause(settings, backoffMs(settings.retry, attempt, settings.random, verdict.kind === 'retry' ? verdict.afterMs : 0), signal)
  }
}

async function pause(settings: RequestSettings, ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await settings.clock.sleep(ms, signal)
  } catch (error) {
    throw signal?.aborted === true ? cancelled(signal) : error
  }
}

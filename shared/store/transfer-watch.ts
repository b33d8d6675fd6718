// Watches one request: aborts it when the caller cancels or when no byte has moved for too long. A fixed limit on the
// whole transfer would kill slow lines that work; a stalled one must not hold a run for ever.
import type { Clock } from '../clock.ts'

export class TransferWatch {
  readonly #clock: Clock
  readonly #outer: AbortSignal | undefined
  readonly #transfer = new AbortController()
  readonly #over = new AbortController()
  readonly #cancel = (): void => this.#transfer.abort(this.#outer?.reason)
  readonly #started: number
  #limitMs: number
  #last: number
  #stalled = false

  constructor(clock: Clock, limitMs: number, outer: AbortSignal | undefined) {
    this.#clock = clock
    this.#limitMs = limitMs
    this.#outer = outer
    this.#started = this.#last = clock.monotonicMs()
    if (outer?.aborted === true) this.#cancel()
    else outer?.addEventListener('abort', this.#cancel, { once: true })
    this.#watch().catch((error: unknown) => this.abort(error))
  }

  /** Aborts with the request: give it to whatever does the work. */
  get signal(): AbortSignal {
    return this.#transfer.signal
  }

  get stalled(): boolean {
    return this.#stalled
  }

  /** Something moved. */
  tick(): void {
    this.#last = this.#clock.monotonicMs()
  }

  /**
   * The body is handed over and only the answer is awaited. The kernel may still hold megabytes of it, so the answer may
   * take as long again as the sending did.
   */
  handedOver(): void {
    this.tick()
    this.#limitMs = Math.max(this.#limitMs, this.#last - this.#started)
  }

  abort(reason: unknown): void {
    this.#transfer.abort(reason)
  }

  /** Ends the watch; always called. */
  stop(): void {
    this.#outer?.removeEventListener('abort', this.#cancel)
    this.#over.abort()
  }

  async #watch(): Promise<void> {
    while (!this.#over.signal.aborted) {
      const left = this.#limitMs - (this.#clock.monotonicMs() - this.#last)
      if (left <= 0) {
        this.#stalled = true
        this.abort(new Error(`no byte moved for ${this.#limitMs} ms`))
        return
      }
      const woken = await this.#clock.sleep(left, this.#over.signal).then(
        () => true,
        (error: unknown) => {
          if (this.#over.signal.aborted) return false
          throw error
        },
      )
      if (!woken) return
    }
  }
}

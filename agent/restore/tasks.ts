// Work in flight, at most so much at a time. The first failure stops new work; `settle` waits until nothing runs any more, so that nobody
// writes after the descriptors are closed.

export class Tasks {
  readonly #limit: number
  readonly #waiting: (() => void)[] = []
  #running = 0
  #failure: { readonly error: unknown } | undefined

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Resolves when the work has begun. Throws the failure of earlier work. */
  async begin(work: () => Promise<void>): Promise<void> {
    while (this.#running >= this.#limit && this.#failure === undefined) await this.#turn()
    this.check()
    this.#running += 1
    void work()
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => {
        this.#running -= 1
        for (const wake of this.#waiting.splice(0)) wake()
      })
  }

  check(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }

  /** Waits for everything, whatever comes of it. */
  async settle(): Promise<void> {
    while (this.#running > 0) await this.#turn()
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }
}

// Wakes the parked poll of an agent when there is something for it, and ends all of them when the server stops. One poll an agent.

export type WakeReason = 'news' | 'time' | 'superseded' | 'stopping' | 'gone'

export class Waker {
  readonly #parked = new Map<string, (reason: WakeReason) => void>()
  readonly #wakes = new Map<string, number>()
  #stopping = false

  /** How often the agent was woken. Read before looking for news, so that what comes while one looks is not slept over. */
  wakes(agentId: string): number {
    return this.#wakes.get(agentId) ?? 0
  }

  /** Parks the agent's poll until news, the time, a newer poll, the caller's `gone`, or the end; not at all where it was woken since `wakes`. */
  park(agentId: string, wakes: number, sleep: (signal: AbortSignal) => Promise<void>, gone: AbortSignal): Promise<WakeReason> {
    if (this.#stopping) return Promise.resolve('stopping')
    this.#parked.get(agentId)?.('superseded')
    if (this.wakes(agentId) !== wakes) return Promise.resolve('news')
    return new Promise((resolve) => {
      const timer = new AbortController()
      const done = (reason: WakeReason): void => {
        if (this.#parked.get(agentId) === done) this.#parked.delete(agentId)
        gone.removeEventListener('abort', leave)
        timer.abort()
        resolve(reason)
      }
      const leave = (): void => done('gone')
      this.#parked.set(agentId, done)
      gone.addEventListener('abort', leave, { once: true })
      sleep(timer.signal).then(
        () => done('time'),
        () => undefined,
      )
      if (gone.aborted) leave()
    })
  }

  /** Tells the agent's parked poll, where there is one, to look again. */
  wake(agentId: string): void {
    this.#wakes.set(agentId, this.wakes(agentId) + 1)
    this.#parked.get(agentId)?.('news')
  }

  /** Ends every parked poll, now and from now on. */
  stop(): void {
    this.#stopping = true
    for (const done of [...this.#parked.values()]) done('stopping')
  }

  get parked(): number {
    return this.#parked.size
  }
}

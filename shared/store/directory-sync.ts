// Makes changes of directories durable with as few syncs as possible: puts that run side by side share one.
import type { FileHandle } from 'node:fs/promises'

type Running = { readonly current: Promise<void>; next: Promise<void> | undefined }

export class DirectorySync {
  readonly #running = new Map<string, Running>()

  /**
   * Resolves when every change made to the directory before this call is durable. A sync that already runs may have missed the
   * caller's change, so the caller waits for the next one, which starts afterwards and serves all who wait. `handle` must stay
   * open until this resolves.
   */
  sync(key: string, handle: FileHandle): Promise<void> {
    const running = this.#running.get(key)
    if (running === undefined) return this.#start(key, handle)
    const start = (): Promise<void> => this.#start(key, handle)
    running.next ??= running.current.then(start, start)
    return running.next
  }

  async #start(key: string, handle: FileHandle): Promise<void> {
    const state: Running = { current: handle.sync(), next: undefined }
    this.#running.set(key, state)
    try {
      await state.current
    } finally {
      if (state.next === undefined && this.#running.get(key) === state) this.#running.delete(key)
    }
  }
}

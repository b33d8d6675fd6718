// A cache bounded by the bytes of what it holds: what was not asked for longest goes first. One value larger than the bound is not kept.

export class ByteCache<V> {
  readonly #limit: number
  readonly #onDropped: (value: V) => void
  readonly #entries = new Map<string, { value: V; bytes: number }>()
  #held = 0

  /** `onDropped` is told of each value that is no longer held, also of one that never was. */
  constructor(limitBytes: number, onDropped: (value: V) => void = () => undefined) {
    this.#limit = limitBytes
    this.#onDropped = onDropped
  }

  get heldBytes(): number {
    return this.#held
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    // A Map keeps the order of insertion: putting the entry back makes it the newest.
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    return entry.value
  }

  set(key: string, value: V, bytes: number): void {
    this.delete(key)
    if (bytes > this.#limit) return this.#onDropped(value)
    this.#entries.set(key, { value, bytes })
    this.#held += bytes
    for (const oldest of this.#entries.keys()) {
      if (this.#held <= this.#limit) break
      this.delete(oldest)
    }
  }

  delete(key: string): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    this.#held -= entry.bytes
    this.#entries.delete(key)
    this.#onDropped(entry.value)
  }
}

// A set of blob ids in 16 bytes each, for walks over all nodes of a repository: strings in a Set would take eight times that. The ids are
// keyed hashes, so their first 16 bytes are as good as all of them.

export class SeenIds {
  #slots = new BigUint64Array(2 * 1024)
  #count = 0

  get size(): number {
    return this.#count
  }

  /** False where the id was there already. */
  add(id: string): boolean {
    // Zero marks a free slot; an id that begins with eight zero bytes does not happen and would only be walked twice.
    const high = BigInt(`0x${id.slice(0, 16)}`)
    const low = BigInt(`0x${id.slice(16, 32)}`)
    if (!this.#insert(high, low)) return false
    this.#count += 1
    if (this.#count * 3 > this.#slots.length) this.#grow()
    return true
  }

  has(id: string): boolean {
    const slots = this.#slots
    const high = BigInt(`0x${id.slice(0, 16)}`)
    const low = BigInt(`0x${id.slice(16, 32)}`)
    const mask = slots.length / 2 - 1
    for (let at = Number(high & 0xffffffffn) & mask; ; at = (at + 1) & mask) {
      if (slots[at * 2] === 0n && slots[at * 2 + 1] === 0n) return false
      if (slots[at * 2] === high && slots[at * 2 + 1] === low) return true
    }
  }

  #insert(high: bigint, low: bigint): boolean {
    const slots = this.#slots
    const mask = slots.length / 2 - 1
    for (let at = Number(high & 0xffffffffn) & mask; ; at = (at + 1) & mask) {
      if (slots[at * 2] === 0n && slots[at * 2 + 1] === 0n) {
        slots[at * 2] = high
        slots[at * 2 + 1] = low
        return true
      }
      if (slots[at * 2] === high && slots[at * 2 + 1] === low) return false
    }
  }

  #grow(): void {
    const old = this.#slots
    this.#slots = new BigUint64Array(old.length * 2)
    for (let at = 0; at < old.length; at += 2) if (old[at] !== 0n || old[at + 1] !== 0n) this.#insert(old[at]!, old[at + 1]!)
  }
}

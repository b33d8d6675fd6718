// The table of known blob ids, in shared memory so that workers ask and claim without a message. It holds the first 16 bytes of each id
// and what is known of it: durable before this run, or claimed in this run by the segment with a given number. A claim is won by exactly
// one thread. When a table fills up a larger one is added behind it; tables are never moved.

/** What a look-up says. Numbers above `DURABLE` are segment numbers of this run plus `FIRST_SEGMENT`. */
export const UNKNOWN = 0
const BUSY = 1
export const DURABLE = 2
export const FIRST_SEGMENT = 3

const WORDS_PER_SLOT = 5

/** The shared memories of a table, as they are handed to a worker. */
export type KnownIdsMemory = readonly SharedArrayBuffer[]

export type KnownIds = {
  readonly memory: () => KnownIdsMemory
  /** Adopts memories that another thread added. */
  readonly adopt: (memory: KnownIdsMemory) => void
  /** `id` is at least 16 bytes at `offset`. */
  readonly lookup: (id: Uint8Array, offset?: number) => number
  /**
   * Claims an unknown id with `value`. Gives `UNKNOWN` where this call won, or what the table held. The table is never more than 7/8 full:
   * throws RangeError beyond that (the owner must `grow` in time).
   */
  readonly claim: (id: Uint8Array, value: number) => number
  readonly count: () => number
  /** Numbers of all segments that claimed something in this run, each once. */
  readonly claimedSegments: () => Set<number>
  readonly capacity: () => number
  /** Adds a table so that at least `more` further ids fit. Only the owning thread calls it. */
  readonly grow: (more: number) => void
}

type Table = { readonly words: Int32Array; readonly mask: number; readonly slots: number }

// Word 0 of each memory counts its entries.
function open(memory: SharedArrayBuffer): Table {
  const words = new Int32Array(memory)
  const slots = (words.length - 1) / WORDS_PER_SLOT
  return { words, slots, mask: slots - 1 }
}

function allocate(entries: number): SharedArrayBuffer {
  const slots = 2 ** Math.max(10, Math.ceil(Math.log2(entries * 1.6)))
  return new SharedArrayBuffer((slots * WORDS_PER_SLOT + 1) * 4)
}

export function createKnownIds(expected: number): KnownIds {
  return openKnownIds([allocate(expected)])
}

/** The same tables seen from another thread. */
export function openKnownIds(initial: KnownIdsMemory): KnownIds {
  let memories = [...initial]
  let tables = memories.map(open)
  const key = new Int32Array(4)
  const readKey = (id: Uint8Array, offset: number): void => {
    for (let i = 0, at = offset; i < 4; i++, at += 4) key[i] = id[at]! | (id[at + 1]! << 8) | (id[at + 2]! << 16) | (id[at + 3]! << 24)
  }
  // Ids are keyed hashes, so their own bits spread evenly; the first word chooses the slot.
  const probe = (table: Table): { at: number; state: number } => {
    const { words, mask } = table
    for (let slot = key[0]! & mask; ; slot = (slot + 1) & mask) {
      const at = 1 + slot * WORDS_PER_SLOT
      let state = Atomics.load(words, at)
      if (state === UNKNOWN) return { at, state }
      // Another thread is writing these four words right now; it takes nanoseconds.
      while (state === BUSY) state = Atomics.load(words, at)
      if (words[at + 1] === key[0] && words[at + 2] === key[1] && words[at + 3] === key[2] && words[at + 4] === key[3]) return { at, state }
    }
  }
  const lookup = (id: Uint8Array, offset = 0): number => {
    readKey(id, offset)
    for (const table of tables) {
      const { state } = probe(table)
      if (state !== UNKNOWN) return state
    }
    return UNKNOWN
  }
  return {
    memory: () => memories,
    adopt: (next) => {
      if (next.length === memories.length) return
      memories = [...next]
      tables = memories.map(open)
    },
    lookup,
    claim: (id, value) => {
      const held = lookup(id)
      if (held !== UNKNOWN) return held
      const last = tables[tables.length - 1]!
      if (Atomics.load(last.words, 0) >= last.slots * 0.875) throw new RangeError('the table of known ids is full')
      for (;;) {
        const { at, state } = probe(last)
        if (state !== UNKNOWN) return state
        if (Atomics.compareExchange(last.words, at, UNKNOWN, BUSY) !== UNKNOWN) continue
        last.words.set(key, at + 1)
        Atomics.store(last.words, at, value)
        Atomics.add(last.words, 0, 1)
        return UNKNOWN
      }
    },
    claimedSegments: () => {
      const segments = new Set<number>()
      for (const { words, slots } of tables)
        for (let slot = 0, at = 1; slot < slots; slot++, at += WORDS_PER_SLOT)
          if (words[at]! > DURABLE) segments.add(words[at]! - FIRST_SEGMENT)
      return segments
    },
    count: () => tables.reduce((sum, table) => sum + Atomics.load(table.words, 0), 0),
    capacity: () => tables.reduce((sum, table) => sum + Math.floor(table.slots * 0.875), 0),
    grow: (more) => {
      const last = tables[tables.length - 1]!
      memories = [...memories, allocate(Math.max(more * 2, last.slots))]
      tables = memories.map(open)
    },
  }
}

// The memory that both threads see: how many runs were begun, and the input of the latest, so that one that never ends is known all the same.

const INPUT_AT = 8
export const WATCHED_BYTES = INPUT_AT + 2 ** 21

/** For the fuzzing thread: to be told of every input before it is run. */
export function beginning(shared: SharedArrayBuffer, name: string, isNext: (name: string) => void): (input: Buffer) => void {
  const state = new Int32Array(shared, 0, 2)
  const bytes = new Uint8Array(shared, INPUT_AT)
  isNext(name)
  return (input) => {
    bytes.set(input.length > bytes.length ? input.subarray(0, bytes.length) : input)
    Atomics.store(state, 1, input.length)
    Atomics.add(state, 0, 1)
  }
}

/** For the watching thread. */
export function watched(shared: SharedArrayBuffer): { runs: () => number; input: () => Buffer } {
  const state = new Int32Array(shared, 0, 2)
  return {
    runs: () => Atomics.load(state, 0),
    input: () => Buffer.from(new Uint8Array(shared, INPUT_AT, Math.min(Atomics.load(state, 1), WATCHED_BYTES - INPUT_AT)).slice()),
  }
}

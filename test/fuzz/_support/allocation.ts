// How many bytes of buffers were asked for since the count was last set to zero: a forged length must not make anybody allocate.

let asked = 0

export const allocation = {
  reset: (): void => {
    asked = 0
  },
  bytes: (): number => asked,
}

/** Counts from now on, in this thread. */
export function countAllocations(): void {
  for (const name of ['alloc', 'allocUnsafe', 'allocUnsafeSlow'] as const) {
    const original = Buffer[name] as (...args: unknown[]) => Buffer<ArrayBuffer>
    Buffer[name] = (...args: unknown[]) => {
      asked += Number(args[0])
      return original(...args)
    }
  }
  const concat = Buffer.concat
  Buffer.concat = (list, length) => {
    const joined = concat(list, length)
    asked += joined.length
    return joined
  }
}

// A bucket as one actor sees it, with a stop at one of its calls: something else happens right before that call is made.
import type { Store } from '@holdfast/shared/store/store.ts'
import type { SimulatedBucket } from '../../_support/simulated-store.ts'

/** Which call waits: the nth (from 1) of an operation on names or prefixes that begin so. */
export type Stop = { readonly operation: 'put' | 'list'; readonly prefix: string; readonly nth?: number }

/** The store; `act` runs once, before the call. */
export function pausedStore(inner: Store, { operation, prefix, nth = 1 }: Stop, act: () => Promise<void>): Store {
  let seen = 0
  const pause = async (called: Stop['operation'], name: string): Promise<void> => {
    if (called === operation && name.startsWith(prefix) && ++seen === nth) await act()
  }
  return {
    location: inner.location,
    ...(inner.diagnostics === undefined ? {} : { diagnostics: inner.diagnostics }),
    put: async (name, body, more) => {
      await pause('put', name)
      return inner.put(name, body, more)
    },
    get: (name, more) => inner.get(name, more),
    getRange: (name, range, more) => inner.getRange(name, range, more),
    head: (name, more) => inner.head(name, more),
    list: async function* (name, more) {
      await pause('list', name)
      yield* inner.list(name, more)
    },
    remove: (name, more) => inner.remove(name, more),
    close: () => inner.close(),
  }
}

/** The bucket, for `engine.backup({ bucket })`. */
export function pausedBucket(bucket: SimulatedBucket, stop: Stop, act: () => Promise<void>): SimulatedBucket {
  return new Proxy(bucket, {
    get: (target, property) => {
      if (property === 'store') return (actor?: string) => pausedStore(target.store(actor), stop, act)
      const value: unknown = Reflect.get(target, property, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

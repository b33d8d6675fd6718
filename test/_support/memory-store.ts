// A store in memory that counts what is asked of it and can be made to fail, lie or lose objects: for tests of readers.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { ObjectInfo, Store } from '@holdfast/shared/store/store.ts'

export type MemoryStore = Store & {
  readonly objects: Map<string, Buffer>
  /** Calls so far, as `put name` or `range name offset length`. */
  readonly calls: string[]
  /** Called before every read; what it returns is thrown. */
  fault: ((call: string, name: string) => HoldfastError | undefined) | undefined
}

export function memoryStore(): MemoryStore {
  const objects = new Map<string, Buffer>()
  const calls: string[] = []
  const missing = (name: string): HoldfastError => new HoldfastError('not-found', `there is no object ${name}`)
  const check = (call: string, name: string): void => {
    calls.push(`${call} ${name}`)
    const error = store.fault?.(call.split(' ')[0]!, name)
    if (error !== undefined) throw error
  }
  const found = (name: string): Buffer => {
    const object = objects.get(name)
    if (object === undefined) throw missing(name)
    return object
  }
  const info = (name: string, object: Buffer): ObjectInfo => ({ name, bytes: object.length, storedAt: 1_000 })
  const store: MemoryStore = {
    location: 'memory',
    objects,
    calls,
    fault: undefined,
    put: async (name, body) => {
      check('put', name)
      if (body.kind !== 'bytes') throw new TypeError('this store takes bytes alone')
      if (objects.has(name)) return { created: false }
      objects.set(name, Buffer.from(body.bytes))
      return { created: true }
    },
    get: async (name, { limitBytes }) => {
      check('get', name)
      const object = found(name)
      if (object.length > limitBytes) throw new HoldfastError('too-large', `${name} is too large`)
      return Buffer.from(object)
    },
    getRange: async (name, { offset, length }) => {
      check(`range`, name)
      calls[calls.length - 1] = `range ${name} ${offset} ${length}`
      const object = found(name)
      const from = offset < 0 ? object.length + offset : offset
      if (from < 0 || from + length > object.length) throw new HoldfastError('damaged', `${name} ends too early`)
      return Buffer.from(object.subarray(from, from + length))
    },
    head: async (name) => {
      check('head', name)
      const object = objects.get(name)
      return object === undefined ? undefined : info(name, object)
    },
    list: async function* (prefix) {
      check('list', prefix)
      yield [...objects]
        .filter(([name]) => name.startsWith(prefix))
        .map(([name, object]) => info(name, object))
        .sort((a, b) => (a.name < b.name ? -1 : 1))
    },
    remove: async (name) => {
      check('remove', name)
      objects.delete(name)
    },
    close: async () => undefined,
  }
  return store
}

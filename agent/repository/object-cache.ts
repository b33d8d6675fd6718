// Local copies of immutable objects, sealed as they are in the store, so that a daily run fetches an index file or snapshot once. Losing them costs
// the fetch; a copy that does not open is fetched anew. The store's listing says what exists: a copy of what is no longer listed is dropped.
import type { Descriptor, FileSystem } from '../file-system/file-system.ts'
import { FileError } from '../file-system/file-system.ts'
import type { ObjectName } from '@holdfast/shared/store/store.ts'

export type ObjectCache = {
  /** The copy of an object of exactly `bytes` bytes. */
  readonly get: (name: ObjectName, bytes: number) => Buffer | undefined
  readonly put: (name: ObjectName, object: Buffer) => void
  /** Drops copies of objects under `prefix` that are not in `names`. */
  readonly keep: (prefix: string, names: ReadonlySet<ObjectName>) => void
}

/** A cache in a directory that belongs to this user. It never fails a run: what cannot be read or written is not cached. */
export function directoryObjectCache(fileSystem: FileSystem, directory: Descriptor): ObjectCache {
  const fileName = (name: ObjectName): Buffer => Buffer.from(name.replaceAll('/', '_'))
  const attempt = <T>(work: () => T): T | undefined => {
    try {
      return work()
    } catch (error) {
      if (error instanceof FileError) return undefined
      throw error
    }
  }
  return {
    get: (name, bytes) =>
      attempt(() => {
        const fd = fileSystem.open(directory, fileName(name), 'read')
        try {
          if (fileSystem.stat(fd, Buffer.alloc(0)).size !== bytes) return undefined
          const object = Buffer.allocUnsafeSlow(bytes)
          for (let done = 0; done < bytes;) {
            const read = fileSystem.read(fd, object, done, bytes - done, done)
            if (read === 0) return undefined
            done += read
          }
          return object
        } finally {
          fileSystem.close(fd)
        }
      }),
    put: (name, object) => {
      const temporary = Buffer.concat([fileName(name), Buffer.from('.tmp')])
      attempt(() => fileSystem.remove(directory, temporary, 'file'))
      attempt(() => {
        const fd = fileSystem.open(directory, temporary, 'create')
        try {
          fileSystem.write(fd, object, 0)
        } finally {
          fileSystem.close(fd)
        }
        fileSystem.rename(directory, temporary, directory, fileName(name), false)
      })
    },
    keep: (prefix, names) => {
      const wanted = new Set([...names].map((name) => fileName(name).toString('latin1')))
      const begins = fileName(prefix).toString('latin1')
      for (const name of attempt(() => fileSystem.readDirectory(directory)) ?? []) {
        const text = name.toString('latin1')
        if (text.startsWith(begins) && !wanted.has(text)) attempt(() => fileSystem.remove(directory, name, 'file'))
      }
    },
  }
}

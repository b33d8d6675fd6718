// Copies of small objects in memory, as every command and the daemon keep them in a directory: they live as long as the machine's disk.
import type { ObjectCache } from '../../agent/repository/object-cache.ts'

export function memoryCache(): ObjectCache {
  const objects = new Map<string, Buffer>()
  return {
    get: (name, bytes) => {
      const object = objects.get(name)
      return object?.length === bytes ? Buffer.from(object) : undefined
    },
    put: (name, object) => objects.set(name, Buffer.from(object)),
    keep: (prefix, names) => {
      for (const name of objects.keys()) if (name.startsWith(prefix) && !names.has(name)) objects.delete(name)
    },
  }
}

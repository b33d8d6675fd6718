// Walks a store's directory in byte order of the objects' full names, in pages, without following links.
import { constants } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { lstat, open, readdir } from 'node:fs/promises'
import { throwIfAborted } from './checks.ts'
import { directoryError, errnoOf } from './directory-errors.ts'
import type { ObjectInfo } from './store.ts'
import { isObjectName } from './store.ts'

const PAGE_OBJECTS = 1000

/**
 * Pages of at most 1000 objects below `directory`, whose names all start with `prefix`. Files that vanish meanwhile are passed over. Throws a store
 * error that names the very directory below `location` which is not given: of 256 that packs lie in it may be one.
 */
export async function* listDirectoryObjects(
  directory: FileHandle,
  location: string,
  prefix: string,
  signal: AbortSignal | undefined,
): AsyncIterable<readonly ObjectInfo[]> {
  let page: ObjectInfo[] = []
  for await (const found of walk(directory, location, prefix, signal)) {
    page.push(found)
    if (page.length === PAGE_OBJECTS) {
      yield page
      page = []
    }
  }
  if (page.length > 0) yield page
}

async function* walk(directory: FileHandle, location: string, prefix: string, signal: AbortSignal | undefined): AsyncIterable<ObjectInfo> {
  throwIfAborted(signal)
  const at = `/proc/self/fd/${directory.fd}`
  const all = await readdir(at).catch((error: unknown) => {
    throw directoryError(error, 'list', `${location}/${prefix}`)
  })
  const names = all.filter((name) => isObjectName(prefix + name))
  // Looking at a page's files side by side keeps a network share busy; the order is settled afterwards.
  const entries: { key: string; name: string; info: ObjectInfo | undefined }[] = []
  for (let from = 0; from < names.length; from += PAGE_OBJECTS) {
    throwIfAborted(signal)
    for (const entry of await Promise.all(names.slice(from, from + PAGE_OBJECTS).map((name) => look(at, prefix, name))))
      if (entry !== undefined) entries.push(entry)
  }
  // A directory sorts as its name and the slash: `a-b` < `a/x` < `a0`, as a listing of whole names has it.
  entries.sort((a, b) => (a.key < b.key ? -1 : 1))
  for (const { key, name, info } of entries) {
    if (info !== undefined) yield info
    else {
      const child = await openChild(`${at}/${name}`, `${location}/${prefix}${key}`)
      if (child === undefined) continue
      try {
        yield* walk(child, location, prefix + key, signal)
      } finally {
        await child.close()
      }
    }
  }
}

async function look(
  at: string,
  prefix: string,
  name: string,
): Promise<{ key: string; name: string; info: ObjectInfo | undefined } | undefined> {
  try {
    const found = await lstat(`${at}/${name}`)
    if (found.isDirectory()) return { key: `${name}/`, name, info: undefined }
    if (!found.isFile()) return undefined
    return { key: name, name, info: { name: prefix + name, bytes: found.size, storedAt: Math.floor(found.mtimeMs) } }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

async function openChild(path: string, shown: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw directoryError(error, 'list', shown)
  }
}

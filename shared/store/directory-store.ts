// A store in a directory: each object is one file, written beside, synced, and linked to its name exclusively.
// Promises: durable when a put resolves; no object is ever seen half-written; every step is taken relative to an open
// directory handle without following links, so that nothing outside the store is read or written, also while it is
// unmounted or replaced. Opening for use never creates the base: an unmounted disk is an error, not an empty store.
import { constants } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { link, lstat, mkdir, open, readdir, stat, unlink } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Clock } from '../clock.ts'
import { systemClock } from '../clock.ts'
import { HoldfastError, printable } from '../errors.ts'
import type { Random } from '../random.ts'
import { systemRandom } from '../random.ts'
import { directoryError, errnoOf, localFileError } from './directory-errors.ts'
import { COPY_BUFFER_BYTES, isTaken, openLocal, READ, readExactly, split, takeName, NO_LINKS, under } from './directory-files.ts'
import { listDirectoryObjects } from './directory-list.ts'
import { DirectorySync } from './directory-sync.ts'
import { checkLimit, checkRange, endsBefore, notFound, requireObjectName, requirePrefix, throwIfAborted, tooLarge } from './checks.ts'
import type { ListOptions, ObjectInfo, ObjectName, PutBody, Store } from './store.ts'

const TEMPORARY = 'tmp'
/** `_` is outside the grammar of object names: a leftover can never be taken for an object. */
const TEMPORARY_NAME = /^put_[0-9a-f]{32}$/
const TEMPORARY_MAX_AGE_MS = 24 * 3600 * 1000
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

export type DirectoryStoreOptions = {
  /** Creates the base where it is missing: for `init` alone. */
  readonly create?: boolean
  readonly clock?: Clock
  readonly random?: Random
}

/**
 * Opens the store in `path`. Rejects with `store-unreachable` where the directory is not there (a disk that is not mounted),
 * `store-refused` where it may not be used. Temporary files that a crash left more than a day ago are removed.
 */
export async function openDirectoryStore(path: string, options: DirectoryStoreOptions = {}): Promise<Store> {
  const absolute = resolve(path)
  const clock = options.clock ?? systemClock
  try {
    if (options.create === true) await createBase(absolute)
    const base = await open(absolute, constants.O_RDONLY | constants.O_DIRECTORY)
    const store = new DirectoryStore(absolute, base, clock, options.random ?? systemRandom)
    try {
      await store.removeLeftovers()
    } catch (error) {
      await base.close()
      throw error
    }
    return store
  } catch (error) {
    throw directoryError(error, 'open', absolute)
  }
}

async function createBase(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 })
  if (first === undefined) return
  // Every directory made on the way must survive a power cut, as must the entry in the parent of the first.
  for (let at = resolve(path, '..'); ; at = resolve(at, '..')) {
    const handle = await open(at, constants.O_RDONLY | constants.O_DIRECTORY)
    await handle.sync().finally(() => handle.close())
    if (at === resolve(first, '..') || at === '/') return
  }
}

class DirectoryStore implements Store {
  readonly location: string
  readonly #base: FileHandle
  readonly #clock: Clock
  readonly #random: Random
  /** Directories whose own entry is known to be durable, so that only the first put of a process into each syncs its parent. */
  readonly #made = new Map<string, Promise<void>>()
  readonly #syncs = new DirectorySync()
  readonly #buffers: Buffer[] = []

  constructor(location: string, base: FileHandle, clock: Clock, random: Random) {
    this.location = location
    this.#base = base
    this.#clock = clock
    this.#random = random
  }

  readonly diagnostics = {
    kind: 'directory' as const,
    overwrite: (name: ObjectName, bytes: Uint8Array) => this.#overwrite(name, bytes),
    now: async ({ readOnly = false }: { readOnly?: boolean | undefined } = {}) => (readOnly ? undefined : this.#now()),
    versioning: async () => 'off' as const,
    objectLock: async () => 'off' as const,
  }

  async put(
    name: ObjectName,
    body: PutBody,
    options: { signal?: AbortSignal | undefined; progress?: ((bytes: number) => void) | undefined } = {},
  ): Promise<{ created: boolean }> {
    requireObjectName(name)
    throwIfAborted(options.signal)
    return this.#with('put', name, async () => {
      const [parent, last] = split(name)
      const directory = await this.#openDirectory(parent, true)
      try {
        const target = under(directory, last)
        const created = !(await isTaken(target)) && (await this.#create(body, target, options))
        // Also where the name was taken: an earlier try may have failed between the link and this sync.
        await this.#syncs.sync(parent.join('/'), directory)
        return { created }
      } finally {
        await directory.close()
      }
    })
  }

  async get(name: ObjectName, options: { limitBytes: number; signal?: AbortSignal | undefined }): Promise<Buffer> {
    requireObjectName(name)
    checkLimit(options.limitBytes)
    return this.#read(name, options.signal, async (file, size) => {
      if (size > options.limitBytes) throw tooLarge(this.location, name, options.limitBytes)
      return readExactly(file, 0, size, options.signal)
    })
  }

  async getRange(
    name: ObjectName,
    range: { offset: number; length: number },
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<Buffer> {
    requireObjectName(name)
    checkRange(range)
    return this.#read(name, options.signal, async (file, size) => {
      const start = range.offset < 0 ? size + range.offset : range.offset
      if (start < 0 || start + range.length > size) throw endsBefore(this.location, name, range, size)
      return readExactly(file, start, range.length, options.signal)
    })
  }

  async head(name: ObjectName, options: { signal?: AbortSignal | undefined } = {}): Promise<ObjectInfo | undefined> {
    requireObjectName(name)
    throwIfAborted(options.signal)
    return this.#with('head', name, async () => {
      const [parent, last] = split(name)
      try {
        const directory = await this.#openDirectory(parent, false)
        try {
          const found = await lstat(under(directory, last))
          return found.isFile() ? { name, bytes: found.size, storedAt: Math.floor(found.mtimeMs) } : undefined
        } finally {
          await directory.close()
        }
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error
        await this.#requireBase()
        return undefined
      }
    })
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<readonly ObjectInfo[]> {
    requirePrefix(prefix)
    // What is made while files are listed may be missing: the first and the last moment are told.
    const tellTime = async (): Promise<void> => options.onTime?.(await this.#now())
    if (options.onTime !== undefined) await tellTime()
    try {
      const segments = prefix === '' ? [] : prefix.slice(0, -1).split('/')
      let start: FileHandle
      try {
        start = await this.#openDirectory(segments, false)
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error
        await this.#requireBase()
        return
      }
      try {
        yield* listDirectoryObjects(start, this.location, prefix, options.signal)
      } finally {
        await start.close()
      }
      if (options.onTime !== undefined) await tellTime()
    } catch (error) {
      throw directoryError(error, 'list', `${this.location}/${prefix}`)
    }
  }

  async remove(name: ObjectName, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    requireObjectName(name)
    throwIfAborted(options.signal)
    await this.#with('remove', name, async () => {
      const [parent, last] = split(name)
      try {
        const directory = await this.#openDirectory(parent, false)
        try {
          await unlink(under(directory, last))
          await this.#syncs.sync(parent.join('/'), directory)
        } finally {
          await directory.close()
        }
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error
        await this.#requireBase()
      }
    })
  }

  async close(): Promise<void> {
    await this.#base.close()
  }

  /** Tidying is comfort: nothing that is stored lies there, so what keeps it from being done (rights, a bad disk) keeps no reader away. */
  async removeLeftovers(): Promise<void> {
    const unlessRefused = (error: unknown): undefined => {
      if (errnoOf(error) === undefined) throw error
    }
    const directory = await this.#openDirectory([TEMPORARY], false).catch(unlessRefused)
    if (directory === undefined) return
    try {
      for (const name of (await readdir(under(directory, '.')).catch(unlessRefused)) ?? []) {
        if (!TEMPORARY_NAME.test(name)) continue
        const path = under(directory, name)
        try {
          if (this.#clock.now() - (await lstat(path)).mtimeMs > TEMPORARY_MAX_AGE_MS) await unlink(path)
        } catch (error) {
          unlessRefused(error)
        }
      }
    } finally {
      await directory.close()
    }
  }

  async #create(
    body: PutBody,
    target: string,
    options: { signal?: AbortSignal | undefined; progress?: ((bytes: number) => void) | undefined },
  ): Promise<boolean> {
    if (body.kind === 'file' && body.frozen === true) {
      const linked = await this.#linkFrozen(body, target)
      if (linked !== undefined) {
        options.progress?.(body.bytes)
        return linked
      }
    }
    const temporary = await this.#with('write into', TEMPORARY, () => this.#openDirectory([TEMPORARY], true))
    try {
      const path = under(temporary, `put_${this.#random.bytes(16).toString('hex')}`)
      const file = await open(path, CREATE, 0o600)
      try {
        try {
          if (body.kind === 'bytes') {
            await file.writeFile(body.bytes)
            options.progress?.(body.bytes.length)
          } else await this.#copy(body, file, options)
          await file.datasync()
        } finally {
          await file.close()
        }
        throwIfAborted(options.signal)
        return await takeName(path, target)
      } finally {
        await unlink(path).catch((error: unknown) => {
          if (errnoOf(error) !== 'ENOENT') throw error
        })
      }
    } finally {
      await temporary.close()
    }
  }

  /** Links the spool file itself; undefined where it must be copied (another file system, or one without links). */
  async #linkFrozen(body: PutBody & { kind: 'file' }, target: string): Promise<boolean | undefined> {
    const file = await openLocal(body)
    try {
      // Everything is set before the name appears: the object's age counts from now, and its content is durable.
      const now = this.#clock.now() / 1000
      try {
        await file.chmod(0o600)
        await file.utimes(now, now)
        await file.sync()
        await link(body.path, target)
        return true
      } catch (error) {
        const errno = errnoOf(error) ?? ''
        if (errno === 'EEXIST') return !(await isTaken(target))
        if (errno === 'EXDEV' || errno === 'EACCES' || errno === 'EROFS' || NO_LINKS.includes(errno)) return undefined
        throw error
      }
    } finally {
      await file.close()
    }
  }

  async #copy(
    body: PutBody & { kind: 'file' },
    into: FileHandle,
    options: { signal?: AbortSignal | undefined; progress?: ((bytes: number) => void) | undefined },
  ): Promise<void> {
    const from = await openLocal(body)
    const buffer = this.#buffers.pop() ?? Buffer.allocUnsafeSlow(COPY_BUFFER_BYTES)
    try {
      for (let at = 0; at < body.bytes;) {
        throwIfAborted(options.signal)
        let read: number
        try {
          read = (await from.read(buffer, 0, Math.min(buffer.length, body.bytes - at), at)).bytesRead
        } catch (error) {
          throw localFileError(error, body.path)
        }
        if (read === 0) throw localFileError(undefined, body.path)
        for (let done = 0; done < read;) done += (await into.write(buffer, done, read - done, at + done)).bytesWritten
        at += read
        options.progress?.(read)
      }
    } finally {
      this.#buffers.push(buffer)
      await from.close()
    }
  }

  async #read<T>(name: ObjectName, signal: AbortSignal | undefined, use: (file: FileHandle, size: number) => Promise<T>): Promise<T> {
    throwIfAborted(signal)
    return this.#with('read', name, async () => {
      const [parent, last] = split(name)
      let file: FileHandle
      try {
        const directory = await this.#openDirectory(parent, false)
        file = await open(under(directory, last), READ).finally(() => directory.close())
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error
        await this.#requireBase()
        throw notFound(this.location, name)
      }
      try {
        const found = await file.stat()
        if (!found.isFile())
          throw new HoldfastError(
            'store-refused',
            `${this.location}/${name} is not a plain file; it is not read. Move it away, and bring the file back if you can`,
          )
        return await use(file, found.size)
      } finally {
        await file.close()
      }
    })
  }

  /** A handle on a directory of the store, reached step by step without following links; made durable on the way with `create`. */
  async #openDirectory(segments: readonly string[], create: boolean): Promise<FileHandle> {
    let at = await open(under(this.#base, '.'), DIRECTORY)
    for (const [depth, segment] of segments.entries()) {
      const parent = at
      try {
        const path = under(parent, segment)
        if (create) await this.#makeDirectory(segments.slice(0, depth + 1), parent, path)
        at = await open(path, DIRECTORY)
      } finally {
        await parent.close()
      }
    }
    return at
  }

  async #makeDirectory(segments: readonly string[], parent: FileHandle, path: string): Promise<void> {
    const key = segments.join('/')
    const make = async (): Promise<void> => {
      await mkdir(path, 0o700).catch((error: unknown) => {
        if (errnoOf(error) !== 'EEXIST') throw error
      })
      await this.#syncs.sync(segments.slice(0, -1).join('/'), parent)
    }
    let made = this.#made.get(key)
    if (made === undefined) this.#made.set(key, (made = make()))
    try {
      await made
      // Somebody may have removed the directory since; forgetting it then makes it again.
      await lstat(path)
    } catch (error) {
      this.#made.delete(key)
      if (errnoOf(error) !== 'ENOENT') throw error
      await make()
    }
  }

  /** Rejects where the base is gone: what cannot be reached must never be reported as absent. */
  async #requireBase(): Promise<void> {
    const [held, named] = await Promise.all([this.#base.stat(), stat(this.location)])
    if (held.nlink === 0 || held.ino !== named.ino || held.dev !== named.dev)
      throw new HoldfastError(
        'store-unreachable',
        `the directory ${printable(this.location)} was replaced or unmounted; mount it again and retry`,
      )
  }

  /** The file system's own clock, which on a network share is the server's: the time it gives to a fresh file. */
  async #now(): Promise<number> {
    return this.#with('time', TEMPORARY, async () => {
      const temporary = await this.#openDirectory([TEMPORARY], true)
      try {
        const path = under(temporary, `put_${this.#random.bytes(16).toString('hex')}`)
        const file = await open(path, CREATE, 0o600)
        try {
          return Math.floor((await file.stat()).mtimeMs)
        } finally {
          await file.close()
          await unlink(path)
        }
      } finally {
        await temporary.close()
      }
    })
  }

  async #overwrite(name: ObjectName, bytes: Uint8Array): Promise<'accepted' | 'refused'> {
    requireObjectName(name)
    try {
      await this.#with('overwrite', name, async () => {
        const [parent, last] = split(name)
        const directory = await this.#openDirectory(parent, false)
        try {
          const file = await open(under(directory, last), constants.O_WRONLY | constants.O_TRUNC | constants.O_NOFOLLOW)
          await file.writeFile(bytes).finally(() => file.close())
        } finally {
          await directory.close()
        }
      })
      return 'accepted'
    } catch (error) {
      if (error instanceof HoldfastError && error.code === 'store-refused') return 'refused'
      throw error
    }
  }

  async #with<T>(act: string, name: string, run: () => Promise<T>): Promise<T> {
    try {
      return await run()
    } catch (error) {
      throw directoryError(error, act, `${this.location}/${name}`)
    }
  }
}

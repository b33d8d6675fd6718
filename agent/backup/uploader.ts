// Uploads whole packs from the spool, a few at a time, and remembers in the spool what is durable: a pack's footer stays as a small file until
// an index file names the pack, so that a run that was killed uploads nothing twice and loses track of nothing.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Descriptor, FileSystem } from '../file-system/file-system.ts'
import { writeDurably } from '../file-system/small-file.ts'
import { type ObjectRef, packName } from '@holdfast/shared/format/layout.ts'
import { TRAILER_BYTES } from '../repository/pack.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import type { ClosedPack } from './pack-spool.ts'

export function footerName(ref: ObjectRef): Buffer {
  return Buffer.from(`${ref.session}-${ref.random}.footer`)
}

export type Uploader = {
  readonly push: (pack: ClosedPack) => void
  /** Resolves when fewer than `bytes` wait in the spool; rejects when the run cannot go on. */
  readonly below: (bytes: number) => Promise<void>
  /** Resolves when everything pushed is durable. */
  readonly drained: () => Promise<void>
  /** Begins no further upload and resolves, never rejects, when those under way have ended: only then may the spool be closed. */
  readonly stop: () => Promise<void>
  readonly uploadedBytes: () => number
  readonly waitingBytes: () => number
}

export function createUploader(options: {
  store: Store
  fileSystem: FileSystem
  directory: Descriptor
  directoryPath: Buffer
  atOnce: number
  signal: AbortSignal
  /** Awaited before each upload. A rejection ends the run. */
  before: () => Promise<void>
  /** Called once the pack is durable, before the spool says so. A throw ends the run. */
  onDurable: (pack: ClosedPack) => void
}): Uploader {
  const { store, fileSystem, directory, signal } = options
  const queue: ClosedPack[] = []
  const listeners = new Set<() => void>()
  let active = 0
  let waiting = 0
  let uploaded = 0
  let failure: { error: unknown } | undefined
  let stopped = false

  const wake = (): void => {
    for (const listener of [...listeners]) listener()
  }

  const upload = async (pack: ClosedPack): Promise<void> => {
    const name = packName(pack.ref)
    await options.before()
    if (pack.resumed && (await store.head(name, { signal }))?.bytes === pack.bytes) {
      await requireSame(pack)
      return durable(pack)
    }
    const path = Buffer.concat([options.directoryPath, Buffer.from('/'), pack.name])
    let sent = 0
    const { created } = await store.put(
      name,
      { kind: 'file', path, bytes: pack.bytes, sha256: pack.sha256, frozen: true },
      {
        signal,
        progress: (bytes) => {
          sent += bytes
          uploaded += bytes
        },
      },
    )
    uploaded += pack.bytes - sent
    if (!created) await requireSame(pack)
    durable(pack)
  }

  const durable = (pack: ClosedPack): void => {
    // Told before the spool knows: a crash in between tells the next run again, never nobody.
    options.onDurable(pack)
    writeDurably(fileSystem, directory, footerName(pack.ref), pack.footerObject)
    fileSystem.remove(directory, pack.name, 'file')
  }

  /** The name was taken: only our own earlier try may stand there. */
  const requireSame = async (pack: ClosedPack): Promise<void> => {
    const fd = fileSystem.open(directory, pack.name, 'read')
    const local = Buffer.alloc(TRAILER_BYTES)
    try {
      fileSystem.read(fd, local, 0, TRAILER_BYTES, pack.bytes - TRAILER_BYTES)
    } finally {
      fileSystem.close(fd)
    }
    const info = await store.head(packName(pack.ref), { signal })
    const stored =
      info?.bytes === pack.bytes
        ? await store.getRange(packName(pack.ref), { offset: -TRAILER_BYTES, length: TRAILER_BYTES }, { signal })
        : undefined
    if (stored === undefined || !stored.equals(local)) {
      // A store that keeps half a put: this name is spoilt for good, so the pack goes, and the next run stores its blobs under another.
      if (pack.resumed) fileSystem.remove(directory, pack.name, 'file')
      throw new HoldfastError(
        'store-unsuitable',
        `the store holds another object under the new name ${packName(pack.ref)}: it kept a broken upload, or something else writes there; no snapshot was made, and the next run stores this anew`,
      )
    }
  }

  const start = (): void => {
    while (failure === undefined && !stopped && active < options.atOnce) {
      const pack = queue.shift()
      if (pack === undefined) return
      active += 1
      upload(pack)
        .catch((error: unknown) => {
          failure ??= { error }
        })
        .finally(() => {
          active -= 1
          waiting -= pack.bytes
          start()
          wake()
        })
    }
  }

  const until = (done: () => boolean): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (failure !== undefined) reject(failure.error)
        else if (done()) resolve()
        else return
        listeners.delete(look)
      }
      listeners.add(look)
      look()
    })

  return {
    push: (pack) => {
      waiting += pack.bytes
      queue.push(pack)
      start()
    },
    below: (bytes) => until(() => waiting < bytes),
    drained: () => until(() => active === 0 && queue.length === 0),
    stop: () => {
      stopped = true
      return new Promise((resolve) => {
        const look = (): void => {
          if (active > 0) return
          listeners.delete(look)
          resolve()
        }
        listeners.add(look)
        look()
      })
    },
    uploadedBytes: () => uploaded,
    waitingBytes: () => waiting,
  }
}

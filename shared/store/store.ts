// The seam to object storage. A store keeps immutable objects under names; nothing in here knows what a pack is.
// Where a store keeps versions, the oldest version is the object: for reads, sizes, times and listings alike, also behind a delete marker.
// Implementations: directory-store.ts, s3-store.ts, and simulated-store.ts for tests. test/contract/store.test.ts holds them to this text.

/** An object's name: 1 to 200 bytes of `a-z 0-9 - . /`, no empty, `.` or `..` segment. */
export type ObjectName = string

export type ObjectInfo = {
  readonly name: ObjectName
  readonly bytes: number
  /** When the store says it received the object, in milliseconds since 1970, by the store's clock; S3 tells whole seconds. */
  readonly storedAt: number
  /** Until when the store refuses to remove it, where `head` is told of a lock; milliseconds since 1970. */
  readonly lockedUntil?: number | undefined
}

/** The body of a put. Small objects are bytes; a pack is a spool file of known length, opened anew for each try. */
export type PutBody =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | {
      readonly kind: 'file'
      readonly path: Buffer
      readonly bytes: number
      /** SHA-256 of the content as lower-case hex, computed while the file was written, so that nobody reads it twice. */
      readonly sha256: string
      /** True where nobody will ever write to this file again: a directory on the same file system may link it instead of copying. */
      readonly frozen?: boolean
    }

const MAX_OBJECT_NAME_BYTES = 200
const OBJECT_NAME = /^(?!\.{1,2}(?:\/|$))[a-z0-9.-]+(?:\/(?!\.{1,2}(?:\/|$))[a-z0-9.-]+)*$/

/** True for what `ObjectName` allows; anything else from a listing, an index or a grant is passed over or refused. */
export function isObjectName(text: string): text is ObjectName {
  return text.length <= MAX_OBJECT_NAME_BYTES && OBJECT_NAME.test(text)
}

/** What `doctor` asks of a store beyond the contract; `unknown` where the store or its credentials do not say. */
export interface StoreDiagnostics {
  readonly kind: 'directory' | 's3' | 'simulated'
  /** Tries to change an existing object with an unconditional put, as a thief of the credentials would. Rejects only if unreachable. */
  overwrite(name: ObjectName, bytes: Uint8Array, options?: { signal?: AbortSignal | undefined }): Promise<'accepted' | 'refused'>
  /**
   * The store's wall clock in milliseconds since 1970, read from a fresh reply. With `readOnly` nothing is written for it: undefined where it can only be
   * learnt by writing, as in a directory.
   */
  now(options?: { signal?: AbortSignal | undefined; readOnly?: boolean | undefined }): Promise<number | undefined>
  versioning(options?: { signal?: AbortSignal | undefined }): Promise<'on' | 'suspended' | 'off' | 'unknown'>
  objectLock(options?: { signal?: AbortSignal | undefined }): Promise<'on' | 'off' | 'unknown'>
}

export type ListOptions = { readonly signal?: AbortSignal | undefined; readonly onTime?: ((storeMs: number) => void) | undefined }

export interface Store {
  /** How a person would name this store: the directory, or `s3:https://host/bucket/prefix`. Holds no secret. */
  readonly location: string

  /** Present where the store can be examined by `probeStore`. */
  readonly diagnostics?: StoreDiagnostics

  /**
   * Creates the object; it is durable when the promise resolves. Resolves with `created: false`, changing nothing, where the
   * name is known to be taken (412, EEXIST). A store without conditional puts cannot notice that and answers `created: true`:
   * correctness must not rest on it. May be called again after any failure. `progress` is told of bytes sent.
   */
  put(
    name: ObjectName,
    body: PutBody,
    options?: { signal?: AbortSignal | undefined; progress?: ((bytes: number) => void) | undefined },
  ): Promise<{ created: boolean }>

  /** The whole object. Rejects with `not-found`; with `too-large` where it is longer than `limitBytes`. */
  get(name: ObjectName, options: { limitBytes: number; signal?: AbortSignal | undefined }): Promise<Buffer>

  /**
   * The bytes from `offset`, exactly `length` of them, or `damaged` where the object ends before. Rejects with `not-found`.
   * With a negative `offset`: that many bytes from the end (`length` must be -offset).
   */
  getRange(name: ObjectName, range: { offset: number; length: number }, options?: { signal?: AbortSignal | undefined }): Promise<Buffer>

  /** Size and time of one object; undefined where there is none. */
  head(name: ObjectName, options?: { signal?: AbortSignal | undefined }): Promise<ObjectInfo | undefined>

  /**
   * Every object whose name starts with `prefix` (which ends with `/` or is empty), in byte order of names, one page at a time. A
   * listing is a hint: it may lack what was put a moment ago by another. Names that this product cannot have written are passed over.
   * `onTime` is told of the store's clock, in milliseconds since 1970, as each page came, an empty one too, where the store says it; that costs no
   * request, and in a directory a file that is made and removed.
   */
  list(prefix: string, options?: ListOptions): AsyncIterable<readonly ObjectInfo[]>

  /** Removes the object with all its versions; removing what is not there succeeds. Only maintenance and key removal call it. */
  remove(name: ObjectName, options?: { signal?: AbortSignal | undefined }): Promise<void>

  close(): Promise<void>
}
// Errors of a store: `store-unreachable` (retryable: network, timeouts, 5xx, 429 after the store's own retries), `store-refused`
// (credentials, permission, bucket missing, redirect, any other 4xx), `store-full` (ENOSPC, EDQUOT, 507, quota), `not-found`,
// `damaged` (shorter than asked), `local-disk` (the spool file cannot be read), `cancelled` (the signal aborted).

// A store in an S3 bucket. Promises: bodies stream from the spool through three buffers and are hashed by nobody twice;
// every request is retried here alone, by opening the file again; a stalled one is given up by progress, not by total
// time; what a reply says is checked before it is believed; no error and no location holds a credential; where the bucket
// keeps versions, the oldest is the object.
import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'
import type { Clock } from '../clock.ts'
import { systemClock } from '../clock.ts'
import { HoldfastError, printable } from '../errors.ts'
import type { Random } from '../random.ts'
import { systemRandom } from '../random.ts'
import { checkLimit, checkRange, endsBefore, notFound, requireObjectName, requirePrefix, tooLarge } from './checks.ts'
import type { RetryPolicy } from './retry.ts'
import { DEFAULT_RETRY, RateLimit } from './retry.ts'
import type { S3ClientSettings } from './s3-client.ts'
import { LazyS3Client, presetHash } from './s3-client.ts'
import { s3Diagnostics } from './s3-diagnostics.ts'
import { judgeFailure, readFailure } from './s3-errors.ts'
import { collectBody, destroyBody, parseContentRange } from './s3-replies.ts'
import type { RequestSettings } from './s3-requests.ts'
import { runRequest } from './s3-requests.ts'
import { ObjectVersions } from './s3-versions.ts'
import { openSpool, SPOOL_BUFFER_BYTES, SpoolBuffers, streamBytes } from './spool-stream.ts'
import type { ListOptions, ObjectInfo, ObjectName, PutBody, Store, StoreDiagnostics } from './store.ts'
import type { TransferWatch } from './transfer-watch.ts'

const DEFAULT_STALL_MS = 120_000

type Options = { signal?: AbortSignal | undefined }

export type S3StoreConfig = S3ClientSettings & {
  /** Empty, or segments without a slash at either end. */
  readonly prefix?: string
  readonly retry?: RetryPolicy
}

/** Opens the store; nothing is sent yet. Rejects with `bad-config` where the CA file cannot be read. */
export async function openS3Store(config: S3StoreConfig, seams: { clock?: Clock; random?: Random } = {}): Promise<Store> {
  return new S3Store(config, new LazyS3Client(config), seams.clock ?? systemClock, seams.random ?? systemRandom)
}

class S3Store implements Store {
  readonly location: string
  readonly diagnostics: StoreDiagnostics
  readonly #bucket: string
  readonly #base: string
  readonly #client: LazyS3Client
  readonly #settings: RequestSettings
  readonly #pace: RateLimit | undefined
  readonly #versions: ObjectVersions
  readonly #buffers = new SpoolBuffers()
  /** What this store was seen to lack or want; learnt from its answers. */
  #conditional = true
  #checksum = false
  #bucketSeen = false

  constructor(config: S3StoreConfig, client: LazyS3Client, clock: Clock, random: Random) {
    const prefix = config.prefix ?? ''
    this.location = `s3:${config.endpoint}/${config.bucket}${prefix === '' ? '' : `/${prefix}`}`
    this.#bucket = config.bucket
    this.#base = prefix === '' ? '' : `${prefix}/`
    this.#client = client
    this.#settings = { clock, random, retry: config.retry ?? DEFAULT_RETRY, stallMs: config.stallMs ?? DEFAULT_STALL_MS }
    this.#pace = config.uploadBytesPerSecond === undefined ? undefined : new RateLimit(clock, config.uploadBytesPerSecond)
    this.diagnostics = s3Diagnostics(
      config.bucket,
      client,
      (act, signal, once) => this.#request(act, '', signal, once),
      (name, bytes, options) => this.#overwrite(name, bytes, options ?? {}),
    )
    this.#versions = new ObjectVersions({
      location: this.location,
      bucket: config.bucket,
      base: this.#base,
      client,
      run: (act, name, signal, once) => this.#request(act, name, signal, once),
      versioning: this.diagnostics.versioning,
    })
  }

  /**
   * See `Store.put`. When a try fails without an answer, the object may be there all the same: the next try then finds the name
   * taken and this resolves with `created: false`, which is right; whoever owns the name reads back and compares. For files the
   * name is looked up before a retry, so that a pack whose answer was lost is not sent twice.
   */
  async put(
    name: ObjectName,
    body: PutBody,
    options: Options & { progress?: ((bytes: number) => void) | undefined } = {},
  ): Promise<{ created: boolean }> {
    requireObjectName(name)
    const sha256 = body.kind === 'file' ? body.sha256 : createHash('sha256').update(body.bytes).digest('hex')
    // Bytes that a failed try had counted are taken back from what the next one reports, so that progress never runs past the size.
    let reported = 0
    const report = (sent: number): void => {
      if (sent <= reported) return
      options.progress?.(sent - reported)
      reported = sent
    }
    return this.#request('put', name, options.signal, async (watch, attempt) => {
      if (attempt > 1 && body.bytes !== 0 && body.kind === 'file' && (await this.#sameSize(name, body.bytes, watch)))
        return { created: false }
      const taken = await this.#adapt((conditional) => this.#send(name, body, { sha256, conditional }, watch, report))
      if (taken) return { created: false }
      report(body.kind === 'file' ? body.bytes : body.bytes.length)
      return { created: true }
    })
  }

  async get(name: ObjectName, options: { limitBytes: number; signal?: AbortSignal | undefined }): Promise<Buffer> {
    requireObjectName(name)
    checkLimit(options.limitBytes)
    return this.#read(name, options.signal, async (at, watch) => {
      const { sdk, client } = await this.#client.load()
      const reply = await client.send(new sdk.GetObjectCommand(at), { abortSignal: watch.signal })
      const body = await collectBody(reply.Body, options.limitBytes, reply.ContentLength, () => watch.tick())
      if (body === undefined) throw tooLarge(this.location, name, options.limitBytes)
      return body
    })
  }

  async getRange(name: ObjectName, range: { offset: number; length: number }, options: Options = {}): Promise<Buffer> {
    requireObjectName(name)
    checkRange(range)
    if (range.length === 0) {
      if ((await this.head(name, options)) === undefined) throw notFound(this.location, name)
      return Buffer.alloc(0)
    }
    const Range = range.offset < 0 ? `bytes=${range.offset}` : `bytes=${range.offset}-${range.offset + range.length - 1}`
    return this.#read(name, options.signal, async (at, watch) => {
      const { sdk, client } = await this.#client.load()
      const reply = await client.send(new sdk.GetObjectCommand({ ...at, Range }), { abortSignal: watch.signal }).catch((error: unknown) => {
        throw readFailure(error).status === 416 ? endsBefore(this.location, name, range, undefined) : error
      })
      const got = parseContentRange(reply.ContentRange)
      const wanted = range.offset < 0 ? (got?.total ?? 0) + range.offset : range.offset
      if (got === undefined || got.from !== Math.max(0, wanted) || got.to - got.from >= range.length) {
        destroyBody(reply.Body)
        throw new HoldfastError('store-unsuitable', `${printable(this.location)} does not read ranges as S3 does; Holdfast cannot use it`)
      }
      if (got.to - got.from + 1 < range.length) {
        destroyBody(reply.Body)
        throw endsBefore(this.location, name, range, got.total)
      }
      const body = await collectBody(reply.Body, range.length, range.length, () => watch.tick())
      if (body === undefined) throw new HoldfastError('store-unsuitable', `${printable(this.location)} sends more than the range asked for`)
      return body
    })
  }

  async head(name: ObjectName, options: Options = {}): Promise<ObjectInfo | undefined> {
    requireObjectName(name)
    if (await this.#versions.kept(options.signal)) {
      const found = await this.#versions.find(name, options.signal)
      if (found !== 'unlisted') return found?.info
    }
    try {
      return await this.#request('head', name, options.signal, async (watch) => {
        const { sdk, client } = await this.#client.load()
        const reply = await client.send(new sdk.HeadObjectCommand(this.#at(name)), { abortSignal: watch.signal })
        const info = await this.#versions.info(name, reply.ContentLength, reply.LastModified)
        const until = reply.ObjectLockRetainUntilDate?.getTime()
        return info === undefined || until === undefined ? info : { ...info, lockedUntil: until }
      })
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code !== 'not-found') throw error
      await this.#requireBucket(options.signal)
      return undefined
    }
  }

  list(prefix: string, options: ListOptions = {}): AsyncIterable<readonly ObjectInfo[]> {
    const versions = this.#versions
    const tellTime = (): void => {
      const time = this.#client.storeTime
      if (time !== undefined) options.onTime?.(time)
    }
    return (async function* () {
      requirePrefix(prefix)
      for await (const page of versions.list(prefix, options.signal)) {
        tellTime()
        yield page
      }
      // The last reply may have had no page.
      tellTime()
    })()
  }

  async remove(name: ObjectName, options: Options = {}): Promise<void> {
    requireObjectName(name)
    if ((await this.#versions.kept(options.signal)) && (await this.#versions.remove(name, options.signal)) === 'done') return
    try {
      await this.#request('remove', name, options.signal, async (watch) => {
        const { sdk, client } = await this.#client.load()
        await client.send(new sdk.DeleteObjectCommand(this.#at(name)), { abortSignal: watch.signal })
      })
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code !== 'not-found') throw error
    }
  }

  async close(): Promise<void> {
    await this.#client.destroy()
  }

  #at(name: ObjectName): { Bucket: string; Key: string } {
    return { Bucket: this.#bucket, Key: this.#base + name }
  }

  /** Reads the version of an object that counts; once more where the one that was known has been removed meanwhile. */
  async #read<T>(
    name: ObjectName,
    signal: AbortSignal | undefined,
    once: (at: { Bucket: string; Key: string; VersionId?: string }, watch: TransferWatch) => Promise<T>,
  ): Promise<T> {
    for (let again = false; ; again = true) {
      const VersionId = await this.#versions.idOf(name, signal)
      const at = VersionId === undefined ? this.#at(name) : { ...this.#at(name), VersionId }
      try {
        return await this.#request('get', name, signal, (watch) => once(at, watch))
      } catch (error) {
        if (VersionId === undefined || !(error instanceof HoldfastError)) throw error
        if (error.code === 'store-refused' && readFailure(error.cause).status === 403)
          throw new HoldfastError('store-refused', `${error.message}; this bucket keeps versions: allow s3:GetObjectVersion`, {
            cause: error,
          })
        if (error.code !== 'not-found' || again) throw error
        this.#versions.forget(name)
      }
    }
  }

  /** Sends a put, once more where the answer shows what this store lacks or wants. Resolves with whether the name was taken. */
  async #adapt(send: (conditional: boolean) => Promise<void>): Promise<boolean> {
    for (;;) {
      const [conditional, checksum] = [this.#conditional, this.#checksum]
      try {
        await send(conditional)
        return false
      } catch (error) {
        const { kind } = judgeFailure(error)
        if (kind === 'taken') return true
        if (kind === 'no-conditions' && conditional) this.#conditional = false
        else if (kind === 'wants-checksum' && !checksum) this.#checksum = true
        else throw error
      }
    }
  }

  /** One try of a put. */
  async #send(
    name: ObjectName,
    body: PutBody,
    how: { sha256: string; conditional: boolean },
    watch: TransferWatch,
    report: (sent: number) => void,
  ): Promise<void> {
    const { sdk, client } = await this.#client.load()
    const input = {
      ...this.#at(name),
      ContentType: 'application/octet-stream',
      ...(how.conditional ? { IfNoneMatch: '*' } : {}),
      ...(this.#checksum ? { ChecksumSHA256: Buffer.from(how.sha256, 'hex').toString('base64') } : {}),
    }
    const send = async (content: Uint8Array | Readable, bytes: number): Promise<void> => {
      const command = new sdk.PutObjectCommand({ ...input, Body: content, ContentLength: bytes })
      presetHash(command, how.sha256)
      await client.send(command, { abortSignal: watch.signal })
    }
    if (body.kind === 'bytes' && body.bytes.length <= SPOOL_BUFFER_BYTES) {
      await this.#pace?.take(body.bytes.length, watch.signal)
      watch.tick()
      return send(body.bytes, body.bytes.length)
    }
    const total = body.kind === 'file' ? body.bytes : body.bytes.length
    let sent = 0
    let failure: { error: unknown } | undefined
    const options = {
      pace: this.#pace,
      signal: watch.signal,
      moved: (bytes: number) => {
        report((sent += bytes))
        if (sent === total) watch.handedOver()
        else watch.tick()
      },
      failed: (error: unknown) => {
        failure ??= { error }
        watch.abort(error)
      },
    }
    const buffers = body.kind === 'file' ? this.#buffers.take() : []
    const stream = body.kind === 'file' ? await openSpool(body, buffers, options) : streamBytes(body.bytes, options)
    try {
      await send(stream, total)
      if (body.kind === 'file') this.#buffers.give(buffers)
    } catch (error) {
      // The spool's own failure is the cause; what the broken request says is only its consequence.
      throw failure?.error instanceof HoldfastError ? failure.error : error
    } finally {
      stream.destroy()
    }
  }

  async #sameSize(name: ObjectName, bytes: number, watch: TransferWatch): Promise<boolean> {
    const { sdk, client } = await this.#client.load()
    try {
      const reply = await client.send(new sdk.HeadObjectCommand(this.#at(name)), { abortSignal: watch.signal })
      return reply.ContentLength === bytes
    } catch (error) {
      // Not there, or these credentials may not look: then the body is sent again, which is always right.
      if (['not-found', 'refused', 'clock'].includes(judgeFailure(error).kind)) return false
      throw error
    } finally {
      watch.tick()
    }
  }

  /** HEAD has no body: a missing bucket looks like a missing object. Never call an object absent on that ground. */
  async #requireBucket(signal: AbortSignal | undefined): Promise<void> {
    if (this.#bucketSeen) return
    try {
      await this.#request('find', '', signal, async (watch) => {
        const { sdk, client } = await this.#client.load()
        await client.send(new sdk.HeadBucketCommand({ Bucket: this.#bucket }), { abortSignal: watch.signal })
      })
    } catch (error) {
      if (!(error instanceof HoldfastError) || !['not-found', 'store-refused'].includes(error.code)) throw error
      if (error.code === 'not-found')
        throw new HoldfastError(
          'store-refused',
          `the bucket of ${printable(this.location)} does not exist; create it or correct the location`,
          { cause: error },
        )
      // 403: these credentials may not look at the bucket as a whole, which says that there is one.
    }
    this.#bucketSeen = true
  }

  async #overwrite(name: ObjectName, bytes: Uint8Array, options: Options): Promise<'accepted' | 'refused'> {
    requireObjectName(name)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    try {
      const refused = await this.#request('overwrite', name, options.signal, (watch) =>
        this.#adapt(() => this.#send(name, { kind: 'bytes', bytes }, { sha256, conditional: false }, watch, () => undefined)),
      )
      return refused ? 'refused' : 'accepted'
    } catch (error) {
      // Only a plain "you may not" counts: a put that failed for any other reason says nothing about overwriting.
      const status = error instanceof HoldfastError && error.code === 'store-refused' ? readFailure(error.cause).status : undefined
      if (status === 403 || status === 405) return 'refused'
      throw error
    }
  }

  #request<T>(
    act: string,
    name: string,
    signal: AbortSignal | undefined,
    once: (watch: TransferWatch, attempt: number) => Promise<T>,
  ): Promise<T> {
    const what = name === '' ? this.location : `${this.location}/${name}`
    return runRequest(this.#settings, { act, what, signal }, once)
  }
}

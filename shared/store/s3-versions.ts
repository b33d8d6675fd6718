// Which version of an object counts in a bucket that keeps versions: the oldest (FORMAT.md, section 2). Who may put can lay a newer version or
// a delete marker over a name; reading the oldest makes both worthless. Lists as well, because the rule is the same for every name. Learns once
// whether there are versions; where that, or listing them, is refused, the newest version is read and `probeStore` finds that out by trying.
// Requests and reasons: decisions/0006-oldest-version.md.
import { HoldfastError, isHoldfastError, printable } from '../errors.ts'
import { LruMap } from '../lru-map.ts'
import type { LazyS3Client } from './s3-client.ts'
import { readFailure } from './s3-errors.ts'
import type { ObjectInfo, ObjectName, StoreDiagnostics } from './store.ts'
import { isObjectName } from './store.ts'
import type { TransferWatch } from './transfer-watch.ts'

const PAGE_OBJECTS = 1000
/** Names whose oldest version is remembered: about 250 bytes each. */
const REMEMBERED = 16_384
const MAX_VERSION_ID_CHARACTERS = 1024
/** More pages without a name, one after the other, than any store has reason to send; more pages about one name than anybody has versions. */
const MAX_EMPTY_PAGES = 250
const MAX_PAGES_OF_A_NAME = 10_000

type Listed = { readonly Key?: string | undefined; readonly Size?: number | undefined; readonly LastModified?: Date | undefined }
type Version = Listed & { readonly VersionId?: string | undefined }
type Marker = { readonly KeyMarker: string; readonly VersionIdMarker?: string }
type Found = { readonly info: ObjectInfo; readonly versionId: string }

export type VersionsContext = {
  readonly location: string
  readonly bucket: string
  /** What stands before every name in the bucket. */
  readonly base: string
  readonly client: LazyS3Client
  readonly run: <T>(
    act: string,
    name: string,
    signal: AbortSignal | undefined,
    once: (watch: TransferWatch, attempt: number) => Promise<T>,
  ) => Promise<T>
  readonly versioning: StoreDiagnostics['versioning']
}

export class ObjectVersions {
  readonly #at: VersionsContext
  readonly #oldest = new LruMap<ObjectName, string>(REMEMBERED)
  #kept: boolean | undefined

  constructor(context: VersionsContext) {
    this.#at = context
  }

  /** True where the bucket has, or may have, more than one version of a name and they can be listed. One request for each opened store. */
  async kept(signal: AbortSignal | undefined): Promise<boolean> {
    if (this.#kept === undefined) {
      const versioning = await this.#at.versioning({ signal })
      // Suspended: what was put before keeps its versions.
      this.#kept ??= versioning === 'on' || versioning === 'suspended'
    }
    return this.#kept
  }

  /** The id of the version to read; undefined where the name alone says it. Rejects with `not-found`. */
  async idOf(name: ObjectName, signal: AbortSignal | undefined): Promise<string | undefined> {
    if (!(await this.kept(signal))) return undefined
    const known = this.#oldest.get(name)
    if (known !== undefined) return known
    const found = await this.find(name, signal)
    if (found === 'unlisted') return undefined
    if (found === undefined) throw new HoldfastError('not-found', `${printable(this.#at.location)}/${name} is not in the store`)
    return found.versionId
  }

  /** A version that is not there any more is not to be asked for again. */
  forget(name: ObjectName): void {
    this.#oldest.delete(name)
  }

  /** The oldest version of one name as it is now: one request. `unlisted` where versions may not be listed. */
  async find(name: ObjectName, signal: AbortSignal | undefined): Promise<Found | undefined | 'unlisted'> {
    const found = await this.#all(name, signal)
    return found === 'unlisted' ? found : found.versions.at(-1)
  }

  /** Removes every version of a name, the oldest last, so that none of the others ever stands for it; then the marks of deletion. */
  async remove(name: ObjectName, signal: AbortSignal | undefined): Promise<'done' | 'unlisted'> {
    const found = await this.#all(name, signal)
    if (found === 'unlisted') return found
    this.forget(name)
    for (const VersionId of [...found.versions.map(({ versionId }) => versionId), ...found.markers])
      await this.#at.run('remove', name, signal, async (watch) => {
        const { sdk, client } = await this.#at.client.load()
        const input = { Bucket: this.#at.bucket, Key: this.#at.base + name, VersionId }
        await client.send(new sdk.DeleteObjectCommand(input), { abortSignal: watch.signal })
      })
    return 'done'
  }

  /** See `Store.list`. */
  async *list(prefix: string, signal: AbortSignal | undefined): AsyncIterable<readonly ObjectInfo[]> {
    if (await this.kept(signal)) {
      // A refusal shows at the first page; after that a listing is never begun anew in another way.
      const pages = this.#versionPages(prefix, signal)
      const first = await pages.next().catch((error: unknown) => this.#fallBack(error))
      if (first !== undefined) {
        for (let page = first; page.done !== true; page = await pages.next()) if (page.value.length > 0) yield page.value
        return
      }
    }
    yield* this.#plainPages(prefix, signal)
  }

  info(name: ObjectName, bytes: number | undefined, storedAt: Date | undefined): ObjectInfo {
    const time = storedAt?.getTime()
    if (bytes === undefined || !Number.isSafeInteger(bytes) || bytes < 0 || time === undefined || !Number.isSafeInteger(time))
      throw new HoldfastError(
        'store-refused',
        `${printable(this.#at.location)} gives no sound size and time for ${name}; is it an S3 store?`,
      )
    // A listing has milliseconds where a head has none: one object, one time.
    return { name, bytes, storedAt: Math.floor(time / 1000) * 1000 }
  }

  /** Where versions may not be listed, the store is one without them from now on. */
  #fallBack(error: unknown): undefined {
    if (!isHoldfastError(error, 'store-refused') || ![403, 405, 501].includes(readFailure(error.cause).status ?? 0)) throw error
    this.#kept = false
    return undefined
  }

  async #all(name: ObjectName, signal: AbortSignal | undefined): Promise<{ versions: Found[]; markers: string[] } | 'unlisted'> {
    const key = this.#at.base + name
    const versions: Found[] = []
    const markers: string[] = []
    const course = new Course()
    let after: Marker | undefined
    do {
      const reply = await this.#versionReply(key, name, course, after, signal).catch((error: unknown) => this.#fallBack(error))
      if (reply === undefined) return 'unlisted'
      for (const version of reply.versions)
        if (version.Key === key) versions.push({ info: this.info(name, version.Size, version.LastModified), versionId: this.#id(version) })
      for (const each of reply.markers) if (each.Key === key) markers.push(this.#id(each))
      // Names that only begin with this one come after it.
      after = reply.next?.KeyMarker === key ? reply.next : undefined
    } while (after !== undefined)
    const oldest = versions.at(-1)
    if (oldest !== undefined) this.#oldest.set(name, oldest.versionId)
    return { versions, markers }
  }

  /** The oldest version of every name. S3 lists the versions of a name newest first, and a page may end among them. */
  async *#versionPages(prefix: string, signal: AbortSignal | undefined): AsyncGenerator<readonly ObjectInfo[]> {
    let pending: { name: string; info: ObjectInfo; versionId: string } | undefined
    const course = new Course()
    let after: Marker | undefined
    do {
      const reply = await this.#versionReply(this.#at.base + prefix, prefix, course, after, signal)
      const page: ObjectInfo[] = []
      for (const version of reply.versions) {
        const name = this.#nameOf(version, prefix)
        if (name === undefined) continue
        if (pending !== undefined && name !== pending.name) {
          if (name < pending.name) throw this.#unordered()
          page.push(pending.info)
          this.#oldest.set(pending.name, pending.versionId)
        }
        pending = { name, info: this.info(name, version.Size, version.LastModified), versionId: this.#id(version) }
      }
      after = reply.next
      if (after === undefined && pending !== undefined) {
        page.push(pending.info)
        this.#oldest.set(pending.name, pending.versionId)
      }
      // An empty page too: the caller learns from the first that versions may be listed.
      yield page
    } while (after !== undefined)
  }

  async #versionReply(
    Prefix: string,
    name: string,
    course: Course,
    marker: Marker | undefined,
    signal: AbortSignal | undefined,
  ): Promise<{ versions: Version[]; markers: Version[]; next: Marker | undefined }> {
    const reply = await this.#at.run('list', name, signal, async (watch) => {
      const { sdk, client } = await this.#at.client.load()
      const input = { Bucket: this.#at.bucket, Prefix, MaxKeys: PAGE_OBJECTS, ...marker }
      return client.send(new sdk.ListObjectVersionsCommand(input), { abortSignal: watch.signal })
    })
    const versions = reply.Versions ?? []
    const markers = reply.DeleteMarkers ?? []
    if (reply.IsTruncated !== true) return { versions, markers, next: undefined }
    const { NextKeyMarker, NextVersionIdMarker } = reply
    if ((NextKeyMarker ?? '') === '') throw this.#unending('says that a listing goes on, but not how')
    const next = { KeyMarker: NextKeyMarker!, ...(NextVersionIdMarker ? { VersionIdMarker: NextVersionIdMarker } : {}) }
    if (!course.leadsOnTo(next)) throw this.#unending('lists the same pages again and again')
    return { versions, markers, next }
  }

  async *#plainPages(prefix: string, signal: AbortSignal | undefined): AsyncIterable<readonly ObjectInfo[]> {
    let token: string | undefined
    let last = ''
    let emptyPages = 0
    do {
      const ContinuationToken = token
      const reply = await this.#at.run('list', prefix, signal, async (watch) => {
        const { sdk, client } = await this.#at.client.load()
        const input = { Bucket: this.#at.bucket, Prefix: this.#at.base + prefix, MaxKeys: PAGE_OBJECTS }
        return client.send(new sdk.ListObjectsV2Command(ContinuationToken === undefined ? input : { ...input, ContinuationToken }), {
          abortSignal: watch.signal,
        })
      })
      const page: ObjectInfo[] = []
      for (const entry of reply.Contents ?? []) {
        // Of names that are not the product's too: in order, they come to an end.
        const key = entry.Key ?? ''
        if (isNotBefore(last, key)) throw this.#unordered()
        last = key
        const name = this.#nameOf(entry, prefix)
        if (name !== undefined) page.push(this.info(name, entry.Size, entry.LastModified))
      }
      if (reply.IsTruncated === true && (reply.NextContinuationToken ?? '') === '')
        throw this.#unending('says that a listing goes on, but not how')
      token = reply.IsTruncated === true ? reply.NextContinuationToken : undefined
      emptyPages = (reply.Contents ?? []).length === 0 ? emptyPages + 1 : 0
      if (token !== undefined && (token === ContinuationToken || emptyPages > MAX_EMPTY_PAGES))
        throw this.#unending('lists the same pages again and again')
      if (page.length > 0) yield page
    } while (token !== undefined)
  }

  /** The name of a listed object; undefined for what this product cannot have written. */
  #nameOf(listed: Listed, prefix: string): ObjectName | undefined {
    const { base } = this.#at
    const name = listed.Key?.startsWith(base + prefix) === true ? listed.Key.slice(base.length) : ''
    return isObjectName(name) ? name : undefined
  }

  #id(version: Version): string {
    const id = version.VersionId ?? ''
    if (id === '' || id.length > MAX_VERSION_ID_CHARACTERS)
      throw new HoldfastError('store-refused', `${printable(this.#at.location)} lists a version without a sound id; is it an S3 store?`)
    return id
  }

  #unordered(): HoldfastError {
    return new HoldfastError('store-unsuitable', `${printable(this.#at.location)} lists names out of order; Holdfast cannot use it`)
  }

  #unending(why: string): HoldfastError {
    return new HoldfastError('store-refused', `${printable(this.#at.location)} ${why}; nothing was decided on it`)
  }
}

/** Follows where a listing of versions says to go on: names rise, and the versions of one name do not come again. Otherwise it may never end. */
class Course {
  #key = ''
  readonly #versions = new Set<string>()

  leadsOnTo({ KeyMarker, VersionIdMarker = '' }: Marker): boolean {
    if (KeyMarker !== this.#key) {
      if (isNotBefore(this.#key, KeyMarker)) return false
      this.#key = KeyMarker
      this.#versions.clear()
    }
    if (this.#versions.has(VersionIdMarker) || this.#versions.size >= MAX_PAGES_OF_A_NAME) return false
    this.#versions.add(VersionIdMarker)
    return true
  }
}

/** True unless `b` comes after `a` in the order of S3, which is that of the bytes. */
function isNotBefore(a: string, b: string): boolean {
  return Buffer.compare(Buffer.from(a), Buffer.from(b)) >= 0
}

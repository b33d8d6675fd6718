// Where a repository is, as a person writes it (`HOLDFAST_REPO`, `--repo`): a path, or `s3:https://host[:port]/bucket[/prefix]`;
// and the settings that go with it. Any S3-compatible endpoint or a directory will do, as the controller chooses (O3).
// The environment comes as an argument: only a program's own config module reads it.
import { isIP } from 'node:net'
import { resolve } from 'node:path'
import type { Clock } from '../clock.ts'
import { HoldfastError, printable } from '../errors.ts'
import type { Random } from '../random.ts'
import { openDirectoryStore } from './directory-store.ts'
import { openS3Store } from './s3-store.ts'
import type { Store } from './store.ts'

export type DirectoryLocation = { readonly kind: 'directory'; readonly path: string }
export type S3Location = {
  readonly kind: 's3'
  /** `https://host[:port]`, no path. */
  readonly endpoint: string
  readonly bucket: string
  /** Empty, or segments without a slash at either end. */
  readonly prefix: string
}
export type StoreLocation = DirectoryLocation | S3Location

export type S3Credentials = {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
  readonly expiration?: Date
}

/** Settings that a location does not hold. All are optional. */
export type StoreConfig = {
  readonly region?: string
  /** `path` (default): https://host/bucket/key; `virtual`: https://bucket.host/key. */
  readonly style?: 'path' | 'virtual'
  /** PEM file of the authorities to trust for this store, in place of the system's. */
  readonly caFile?: string
  /** Given keys, or a function that fetches fresh ones before the last expire; without either, where the AWS tools look. */
  readonly credentials?: S3Credentials | (() => Promise<S3Credentials>)
  /** Profile of the shared AWS files, used where no credentials are given. */
  readonly profile?: string
  /** Bytes a second for all uploads together. */
  readonly uploadBytesPerSecond?: number
  /** A request is given up and tried again when no byte has moved for so long. Default 120,000. */
  readonly stallMs?: number
  /** Connections at once. Default 16. */
  readonly connections?: number
}

export type StoreSeams = { readonly clock?: Clock; readonly random?: Random }

const BUCKET = /^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$/
const PREFIX_SEGMENT = /^[A-Za-z0-9._-]+$/
const MAX_LOCATION_BYTES = 4096
const FORM = 's3:https://host[:port]/bucket[/prefix], or a directory'

/**
 * Reads a location; nothing is opened. Rejects with `usage` what is neither. Plain http is accepted for loopback addresses
 * only, unless allowed: it shows names and times of objects to everybody on the way.
 */
export function parseLocation(text: string, options: { allowPlainHttp?: boolean } = {}): StoreLocation {
  if (text.trim() === '') throw usage('the repository location is empty')
  if (Buffer.byteLength(text) > MAX_LOCATION_BYTES || text.includes('\0')) throw usage('the repository location is too long or holds a NUL')
  if (text.startsWith('s3:')) return parseS3(text.slice(3), options.allowPlainHttp === true)
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(text)
  if (scheme !== null) {
    const hint = /^https?$/i.test(scheme[1] ?? '')
      ? "put 's3:' before it"
      : `'${printable(scheme[1] ?? '')}:' is no kind of store; for a directory of that name write ./ before it`
    throw usage(hint)
  }
  return { kind: 'directory', path: resolve(text) }
}

function parseS3(text: string, allowPlainHttp: boolean): S3Location {
  if (!/^https?:\/\//.test(text)) throw usage('an S3 location needs its endpoint')
  let url: URL
  try {
    url = new URL(text)
  } catch (error) {
    throw new HoldfastError('usage', `the S3 location is not an address; write ${FORM}`, { cause: error })
  }
  // The text is not repeated here: it may hold a password.
  if (url.username !== '' || url.password !== '')
    throw usage('an S3 location holds no credentials; give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY')
  if (url.search !== '' || url.hash !== '' || text.includes('?') || text.includes('#')) throw usage('an S3 location has no ? and no #')
  if (url.protocol === 'http:' && !allowPlainHttp && !isLoopback(url.hostname))
    throw usage('plain http is accepted for loopback addresses only; use https')
  // `URL` would resolve `..` and hide it; what is checked is what was written.
  const path = text.replace(/^https?:\/\/[^/]*/, '').replace(/^\//, '')
  const [bucket = '', ...segments] = path.replace(/\/+$/, '').split('/')
  if (!BUCKET.test(bucket))
    throw usage(bucket === '' ? 'the S3 location names no bucket' : `'${printable(bucket.slice(0, 80))}' is not the name of a bucket`)
  for (const segment of segments)
    if (!PREFIX_SEGMENT.test(segment) || segment === '.' || segment === '..')
      throw usage(`'${printable(segment.slice(0, 80))}' cannot be part of a prefix: letters, digits, '.', '_' and '-' can`)
  const prefix = segments.join('/')
  if (prefix.length > 400) throw usage('the prefix is longer than 400 characters')
  return { kind: 's3', endpoint: url.origin, bucket, prefix }
}

/** The one way to write a location; `parseLocation` reads it back. */
export function formatLocation(location: StoreLocation): string {
  if (location.kind === 'directory') return location.path
  return `s3:${location.endpoint}/${location.bucket}${location.prefix === '' ? '' : `/${location.prefix}`}`
}

function isLoopback(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '')
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}

/**
 * Reads the settings from an environment. Credentials in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN win, as with
 * the AWS command line; else AWS_PROFILE and the shared files are used, by the SDK and only when a request is made.
 * Rejects with `bad-config`.
 */
export function storeConfigFromEnv(env: Readonly<Record<string, string | undefined>>): StoreConfig {
  const value = (name: string): string | undefined => (env[name] === undefined || env[name] === '' ? undefined : env[name])
  const style = value('HOLDFAST_S3_STYLE')
  if (style !== undefined && style !== 'path' && style !== 'virtual')
    throw new HoldfastError('bad-config', 'HOLDFAST_S3_STYLE is neither path nor virtual')
  const region = value('HOLDFAST_S3_REGION') ?? value('AWS_REGION') ?? value('AWS_DEFAULT_REGION')
  if (region !== undefined && !/^[A-Za-z0-9_-]{1,64}$/.test(region))
    throw new HoldfastError('bad-config', 'the S3 region holds what no region has; correct HOLDFAST_S3_REGION')
  const caFile = value('HOLDFAST_S3_CA')
  const accessKeyId = value('AWS_ACCESS_KEY_ID')
  const secretAccessKey = value('AWS_SECRET_ACCESS_KEY')
  const sessionToken = value('AWS_SESSION_TOKEN')
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined))
    throw new HoldfastError(
      'bad-config',
      'one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set and the other is not; set both or neither',
    )
  const profile = value('AWS_PROFILE')
  const given = accessKeyId !== undefined && secretAccessKey !== undefined
  return {
    ...(region === undefined ? {} : { region }),
    ...(style === undefined ? {} : { style }),
    ...(caFile === undefined ? {} : { caFile }),
    ...(given ? { credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) } } : {}),
    ...(profile === undefined ? {} : { profile }),
  }
}

/** Opens the store at a location. `create` makes a missing directory: for `init` alone; a bucket is never made. */
export async function openStore(
  location: StoreLocation | string,
  config: StoreConfig = {},
  options: StoreSeams & { readonly create?: boolean; readonly allowPlainHttp?: boolean } = {},
): Promise<Store> {
  const { create, allowPlainHttp, ...seams } = options
  const at = typeof location === 'string' ? parseLocation(location, { allowPlainHttp: allowPlainHttp === true }) : location
  return at.kind === 'directory'
    ? openDirectoryStore(at.path, { ...seams, create: create === true })
    : openS3Store({ ...config, endpoint: at.endpoint, bucket: at.bucket, prefix: at.prefix }, seams)
}

function usage(what: string): HoldfastError {
  return new HoldfastError('usage', `${what}; write ${FORM}`)
}

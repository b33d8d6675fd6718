// The only module that knows the AWS SDK. It loads it with the first request (50 MiB), sets it up as measured (no
// `Expect: 100-continue`, no checksums beside the signature, one try), and bounds every reply that is not an object.
import { readFileSync } from 'node:fs'
import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import type { LookupFunction } from 'node:net'
import { pipeline, Readable, Transform } from 'node:stream'
import type * as Sdk from '@aws-sdk/client-s3'
import { parseTime } from '../clock.ts'
import { HoldfastError, messageOf, printable } from '../errors.ts'
import type { StoreConfig } from './location.ts'

const CONNECT_MS = 10_000
const CONNECTIONS = 16
/** A page of 1000 names takes about 1 MiB. */
const MAX_REPLY_BYTES = 8 * 1024 * 1024

export type S3ClientSettings = StoreConfig & {
  readonly endpoint: string
  readonly bucket: string
  /** How host names become addresses, where the system's way is not wanted. */
  readonly lookup?: LookupFunction
}

export type LoadedSdk = { readonly sdk: typeof Sdk; readonly client: Sdk.S3Client }

/** A client that is made when it is first needed. */
export class LazyS3Client {
  readonly #settings: S3ClientSettings
  readonly #ca: Buffer | undefined
  #loading: Promise<LoadedSdk> | undefined
  #date: string | undefined

  /** Rejects (throws) with `bad-config` where the CA file cannot be read. */
  constructor(settings: S3ClientSettings) {
    this.#settings = settings
    this.#ca = settings.caFile === undefined ? undefined : readAuthorities(settings.caFile)
  }

  /** The store's clock in milliseconds since 1970, by the `Date` of the latest reply. */
  get storeTime(): number | undefined {
    const time = parseTime(this.#date ?? '')
    return Number.isSafeInteger(time) ? time : undefined
  }

  load(): Promise<LoadedSdk> {
    this.#loading ??= this.#start()
    return this.#loading
  }

  async destroy(): Promise<void> {
    if (this.#loading !== undefined) (await this.#loading).client.destroy()
  }

  async #start(): Promise<LoadedSdk> {
    const sdk = await import('@aws-sdk/client-s3')
    const client = new sdk.S3Client(clientConfig(this.#settings, this.#ca))
    client.middlewareStack.add(
      (next, context) => async (args) => {
        const result = await next(args)
        const response = asReply(result.response)
        if (response !== undefined) {
          this.#date = response.headers['date']
          const isObject = context['commandName'] === 'GetObjectCommand' && response.statusCode < 300
          if (!isObject && response.body instanceof Readable) response.body = bounded(response.body)
        }
        return result
      },
      { step: 'deserialize', priority: 'low', name: 'holdfastBoundedReply' },
    )
    return { sdk, client }
  }
}

/**
 * Gives a put the SHA-256 that is already known, so that the signer does not hash the body and the store checks it end to end.
 */
export function presetHash(command: Sdk.PutObjectCommand, sha256: string): void {
  command.middlewareStack.add(
    (next) => async (args) => {
      const request: unknown = args.request
      if (typeof request === 'object' && request !== null && 'headers' in request)
        Object.assign(request.headers as Record<string, string>, { 'x-amz-content-sha256': sha256 })
      return next(args)
    },
    { step: 'build', name: 'holdfastPresetHash' },
  )
}

/** The SDK prints warnings of its own where no logger is given. */
const silent = { trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet }

function quiet(): void {}

function clientConfig(settings: S3ClientSettings, ca: Buffer | undefined): Sdk.S3ClientConfig {
  const agent = {
    keepAlive: true,
    maxSockets: settings.connections ?? CONNECTIONS,
    ...(settings.lookup === undefined ? {} : { lookup: settings.lookup }),
  }
  return {
    endpoint: settings.endpoint,
    region: settings.region ?? regionOf(settings.endpoint),
    forcePathStyle: settings.style !== 'virtual',
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
    maxAttempts: 1,
    logger: silent,
    useArnRegion: false,
    disableMultiregionAccessPoints: true,
    ...(settings.credentials === undefined ? {} : { credentials: settings.credentials }),
    ...(settings.profile === undefined ? {} : { profile: settings.profile }),
    requestHandler: {
      connectionTimeout: CONNECT_MS,
      httpAgent: new HttpAgent(agent),
      httpsAgent: new HttpsAgent({ ...agent, ...(ca === undefined ? {} : { ca }) }),
      logger: silent,
    },
  }
}

/** AWS names the region in its hosts; others mostly take any. */
function regionOf(endpoint: string): string {
  return /^https:\/\/s3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?(?::\d+)?$/.exec(endpoint)?.[1] ?? 'us-east-1'
}

function readAuthorities(path: string): Buffer {
  try {
    const pem = readFileSync(path)
    if (pem.includes('-----BEGIN CERTIFICATE-----')) return pem
  } catch (error) {
    throw new HoldfastError('bad-config', `the CA file ${printable(path)} cannot be read (${messageOf(error)}); correct HOLDFAST_S3_CA`, {
      cause: error,
    })
  }
  throw new HoldfastError('bad-config', `the CA file ${printable(path)} holds no PEM certificate; correct HOLDFAST_S3_CA`)
}

type Reply = { statusCode: number; headers: Record<string, string | undefined>; body: unknown }

function asReply(value: unknown): Reply | undefined {
  const isReply = typeof value === 'object' && value !== null && 'statusCode' in value && 'headers' in value && 'body' in value
  return isReply ? (value as Reply) : undefined
}

function bounded(body: Readable): Readable {
  let bytes = 0
  const limit = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      if (bytes > MAX_REPLY_BYTES)
        done(new HoldfastError('store-refused', `the store sends a reply of more than ${MAX_REPLY_BYTES} bytes; is it an S3 store?`))
      else done(null, chunk)
    },
  })
  // An error surfaces on `limit`, which the SDK reads; the callback only ends the other side.
  return pipeline(body, limit, () => undefined)
}

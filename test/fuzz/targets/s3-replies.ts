// What an S3 store answers, read by the real client of the product: the SDK's transport alone is replaced. Input: which call, then replies, one after
// the other and then from the start again: u16 status, u8 which headers, u16 length, body.
import { Readable } from 'node:stream'
import { LazyS3Client } from '@holdfast/shared/store/s3-client.ts'
import { judgeFailure, verdictError } from '@holdfast/shared/store/s3-errors.ts'
import { parseContentRange } from '@holdfast/shared/store/s3-replies.ts'
import { openS3Store } from '@holdfast/shared/store/s3-store.ts'
import { isObjectName } from '@holdfast/shared/store/store.ts'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { type Outcome, type Target, violation } from '../_support/target.ts'

type Reply = { readonly status: number; readonly headers: Record<string, string>; readonly body: Buffer }

const REQUESTS_MAX = 4_000
const DATE = 'Thu, 01 Jan 2026 12:00:00 GMT'
const HEADERS: readonly Record<string, string>[] = [
  {},
  { 'content-length': '10', 'last-modified': DATE, etag: '"e"' },
  { 'content-length': '4', 'content-range': 'bytes 0-3/10' },
  { 'content-length': '99999999999' },
  { 'content-range': 'bytes 5-2/10', 'content-length': '-1' },
  { 'retry-after': '120', date: DATE },
  { 'retry-after': '99999999999999999999', date: 'never' },
  { 'last-modified': 'not a date', 'content-length': 'many' },
  { location: 'https://elsewhere.example/', 'x-amz-bucket-region': 'eu-\u0000\u202e' },
  { date: 'Thu, 01 Jan 1970 00:00:00 GMT' },
  { 'content-length': '4', 'content-range': 'bytes 6-9/10' },
  { 'content-encoding': 'gzip', 'x-amz-version-id': 'v1', 'x-amz-delete-marker': 'true' },
]

function repliesOf(input: Buffer): Reply[] {
  const replies: Reply[] = []
  for (let at = 1; at + 5 <= input.length && replies.length < 16;) {
    const length = input.readUInt16LE(at + 3)
    const body = input.subarray(at + 5, at + 5 + length)
    replies.push({ status: 100 + (input.readUInt16LE(at) % 500), headers: HEADERS[input[at + 2]! % HEADERS.length]!, body })
    at += 5 + length
  }
  return replies
}

/** What the next requests of any store are answered with. */
const wire: { replies: readonly Reply[]; requests: number } = { replies: [], requests: 0 }
const requestHandler = {
  handle: async () => {
    if (++wire.requests > REQUESTS_MAX) violation(`asks the store ${REQUESTS_MAX} times in one call`)
    const reply = wire.replies[(wire.requests - 1) % wire.replies.length]
    if (reply === undefined) throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
    const { status, headers, body } = reply
    return {
      response: {
        statusCode: status,
        reason: '',
        headers: { ...headers },
        body: Readable.from(body.length === 0 ? [] : [Buffer.from(body)]),
      },
    }
  },
  updateHttpClientConfig: () => undefined,
  httpHandlerConfigs: () => ({}),
  destroy: () => undefined,
}
// Making a client takes longer than a hundred calls; all stores share the first. What a store learns is kept in the store.
const load = LazyS3Client.prototype.load
let loading: ReturnType<typeof load> | undefined
LazyS3Client.prototype.load = function (this: LazyS3Client) {
  loading ??= load.call(this).then((loaded) => {
    loaded.client.config.requestHandler = requestHandler as unknown as typeof loaded.client.config.requestHandler
    return loaded
  })
  return loading
}

const NAME = `index/${'1'.repeat(32)}-${'2'.repeat(32)}`
const clock = simulatedClock({ autoMs: 3_600_000 })

/** One call of a store that was never asked before, so that what it learnt of another input changes nothing. */
async function call(which: number): Promise<void> {
  const retry = { attempts: 2, baseMs: 1, capMs: 1 }
  const config = {
    endpoint: 'https://objects.example',
    bucket: 'bucket',
    prefix: 'repo',
    credentials: { accessKeyId: 'A', secretAccessKey: 'S' },
    retry,
  }
  const store = await openS3Store(config, { clock, random: seededRandom('s3') })
  switch (which % 8) {
    case 0:
      if ((await store.get(NAME, { limitBytes: 1000 })).length > 1000) violation('more was read than the limit')
      return
    case 1: {
      const { length } = await store.getRange(NAME, { offset: 0, length: 4 })
      if (length !== 4) violation(`${length} bytes were read for 4`)
      return
    }
    case 2: {
      const { length } = await store.getRange(NAME, { offset: -4, length: 4 })
      if (length !== 4) violation(`${length} bytes were read for the last 4`)
      return
    }
    case 3: {
      const info = await store.head(NAME)
      if (info !== undefined && !(info.bytes >= 0 && Number.isSafeInteger(info.storedAt))) violation('a size or time cannot be')
      return
    }
    case 4: {
      let last = ''
      for await (const page of store.list('index/'))
        for (const { name, bytes, storedAt } of page) {
          if (!isObjectName(name) || !name.startsWith('index/')) violation(`${JSON.stringify(name)} is listed`)
          if (name <= last) violation('a listing is not in order')
          if (!(bytes >= 0) || !Number.isSafeInteger(storedAt)) violation('a listing has a size or time that cannot be')
          last = name
        }
      return
    }
    case 5:
      await store.put(NAME, { kind: 'bytes', bytes: Buffer.from('bytes') })
      return
    case 6:
      await store.remove(NAME)
      return
    default:
      await store.diagnostics?.now()
      await store.diagnostics?.versioning()
      await store.diagnostics?.objectLock()
  }
}

const xml = (body: string): Buffer => Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>${body}`)
const reply = (status: number, headers: number, body: Buffer): Buffer => {
  const head = Buffer.alloc(5)
  head.writeUInt16LE(status - 100)
  head[2] = headers
  head.writeUInt16LE(body.length, 3)
  return Buffer.concat([head, body])
}
const versioning = (status: string): Buffer => reply(200, 0, xml(`<VersioningConfiguration>${status}</VersioningConfiguration>`))
const contents = (names: readonly string[], more: string): Buffer =>
  xml(
    `<ListBucketResult>${names.map((name) => `<Contents><Key>repo/${name}</Key><LastModified>2026-01-01T12:00:00.000Z</LastModified><Size>10</Size></Contents>`).join('')}${more}</ListBucketResult>`,
  )
const version = (name: string, id: string): string =>
  `<Version><Key>repo/${name}</Key><VersionId>${id}</VersionId><LastModified>2026-01-01T12:00:00.000Z</LastModified><Size>10</Size></Version>`
const versions = (inner: string): Buffer => reply(200, 0, xml(`<ListVersionsResult>${inner}</ListVersionsResult>`))
const ON = '<Status>Enabled</Status>'

export const s3Replies: Target = {
  name: 's3-replies',
  about: 'every call of the S3 store on whatever it is answered: no more than was asked for, names in order, an end to every listing',
  form: 'bytes',
  covers: [
    'shared/store/s3-store.ts',
    'shared/store/s3-replies.ts',
    'shared/store/s3-errors.ts',
    'shared/store/s3-versions.ts',
    'shared/store/s3-diagnostics.ts',
  ],
  weight: 0.3,
  bytesMax: 4096,
  seeds: () => {
    const error = (status: number, code: string): Buffer => reply(status, 5, xml(`<Error><Code>${code}</Code><Message>m</Message></Error>`))
    const goesOn = '<IsTruncated>true</IsTruncated><NextContinuationToken>t1</NextContinuationToken>'
    const marker = `<IsTruncated>true</IsTruncated><NextKeyMarker>repo/${NAME}</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>`
    const calls: [number, Buffer[]][] = [
      [0, [versioning(''), reply(200, 1, Buffer.from('0123456789'))]],
      [0, [versioning(ON), versions(version(NAME, 'v2') + version(NAME, 'v1')), reply(200, 11, Buffer.from('0123456789'))]],
      [1, [versioning(''), reply(206, 2, Buffer.from('0123'))]],
      [2, [versioning(''), reply(206, 10, Buffer.from('6789'))]],
      [3, [versioning(''), reply(200, 1, Buffer.alloc(0))]],
      [3, [versioning(''), reply(404, 0, Buffer.alloc(0)), reply(200, 0, Buffer.alloc(0))]],
      [4, [versioning(''), reply(200, 0, contents(['index/a', 'index/b'], goesOn)), reply(200, 0, contents(['index/c'], ''))]],
      [4, [versioning(ON), versions(version('index/a', 'v2') + version('index/a', 'v1') + marker), versions(version('index/b', 'v1'))]],
      [4, [versioning(''), error(403, 'AccessDenied')]],
      [5, [reply(200, 1, Buffer.alloc(0))]],
      [5, [error(412, 'PreconditionFailed')]],
      [5, [error(501, 'NotImplemented'), error(400, 'InvalidRequest'), reply(200, 0, Buffer.alloc(0))]],
      [6, [versioning(ON), versions(version(NAME, 'v2') + version(NAME, 'v1')), reply(204, 0, Buffer.alloc(0))]],
      [
        7,
        [
          reply(200, 9, Buffer.alloc(0)),
          versioning(ON),
          reply(200, 0, xml('<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>')),
        ],
      ],
      // Listings that go round in circles.
      [4, ['t1', 't2'].map((token) => reply(200, 0, contents([], goesOn.replace('t1', token))))],
      [4, ['a', 'b'].map((key) => versions(`${ON}<IsTruncated>true</IsTruncated><NextKeyMarker>repo/index/${key}</NextKeyMarker>`))],
      [0, ['v1', 'v2'].map((id) => versions(ON + version(NAME, id) + marker.replace('>v1<', `>${id}<`)))],
      [7, [error(503, 'SlowDown'), error(403, 'RequestTimeTooSkewed'), error(507, 'QuotaExceeded')]],
    ]
    return calls.map(([which, replies]) => Buffer.concat([Buffer.of(which), ...replies]))
  },
  run: async (input): Promise<Outcome> => {
    wire.replies = repliesOf(input)
    wire.requests = 0
    const text = input.subarray(1, 65).toString('latin1')
    const range = parseContentRange(text)
    if (range !== undefined && !(range.from <= range.to && range.to < range.total)) violation('a range that cannot be')
    verdictError(judgeFailure({ name: text, message: text, $metadata: { httpStatusCode: input[1] } }), 'get', text, undefined)
    try {
      await call(input[0] ?? 0)
      return 'taken'
    } catch (error) {
      if (isHoldfastError(error) && !isViolation(error)) return 'refused'
      throw isHoldfastError(error) ? error.cause : error
    }
  },
}

/** What the transport itself threw comes back as the cause of what the product made of it. */
function isViolation(error: Error): boolean {
  return error.cause instanceof Error && error.cause.name === 'Violation'
}

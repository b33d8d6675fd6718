// What a failed S3 request means: gone, taken, full, refused, or worth another try. Decided by status and code alone:
// many servers send no message, and texts differ between them.
import { HoldfastError, messageOf, printable } from '../errors.ts'

export type S3Verdict =
  | { readonly kind: 'not-found' }
  /** 412: the name is taken. */
  | { readonly kind: 'taken' }
  /** The store has no conditional puts. */
  | { readonly kind: 'no-conditions' }
  /** The bucket wants a checksum header beside the signature (object lock with default retention). */
  | { readonly kind: 'wants-checksum' }
  | { readonly kind: 'retry'; readonly afterMs: number; readonly why: string }
  /** Our clock is off; the SDK has corrected itself by the reply's date, so one more try can help. */
  | { readonly kind: 'clock'; readonly why: string }
  | { readonly kind: 'full'; readonly why: string }
  | { readonly kind: 'refused'; readonly why: string; readonly hint: string }

const FULL = new Set([
  'QuotaExceeded',
  'XMinioStorageFull',
  'XMinioAdminBucketQuotaExceeded',
  'StorageFull',
  'InsufficientStorage',
  'InsufficientCapacity',
])
const RETRY = new Set([
  'ConditionalRequestConflict',
  'OperationAborted',
  'RequestTimeout',
  'SlowDown',
  'Throttling',
  'ThrottlingException',
  'TooManyRequests',
  'InternalError',
  'ServiceUnavailable',
])
const CREDENTIALS = new Set([
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'ExpiredToken',
  'InvalidToken',
  'TokenRefreshRequired',
  'CredentialsProviderError',
])
const CERTIFICATE = /^(CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|ERR_TLS_|HOSTNAME_MISMATCH)/
const LOCAL_SHORTAGE = new Set(['EMFILE', 'ENFILE', 'ENOMEM'])

/** The parts of an SDK error that a decision may rest on; all of them may be missing. */
export type S3Failure = {
  readonly status: number | undefined
  readonly code: string
  readonly message: string
  readonly headers: Readonly<Record<string, string>>
  /** The SDK has moved its clock to the store's because of this reply. */
  readonly clockCorrected: boolean
}

/** Reads the error as data: it may come from the SDK, from Node's sockets, or from a parser. */
export function readFailure(error: unknown): S3Failure {
  const failure = record(error)
  const metadata = record(failure['$metadata'])
  const headers: Record<string, string> = {}
  const response = record(failure['$response'])
  for (const [name, value] of Object.entries(record(response['headers'])))
    if (typeof value === 'string') headers[name.toLowerCase()] = value
  const status = [metadata['httpStatusCode'], response['statusCode']].find((s) => typeof s === 'number')
  const code = [failure['Code'], failure['code'], failure['name']].find((c) => typeof c === 'string' && c !== '' && c !== 'Error')
  return {
    status: typeof status === 'number' ? status : undefined,
    code: typeof code === 'string' ? code : '',
    message: messageOf(error),
    clockCorrected: metadata['clockSkewCorrected'] === true,
    headers,
  }
}

/** Decides what a failed request means. */
export function judgeFailure(error: unknown): S3Verdict {
  const { status, code, message, headers, clockCorrected } = readFailure(error)
  const why =
    printable([status === undefined ? '' : `status ${status}`, code === 'UnknownError' ? '' : code].filter((p) => p !== '').join(', ')) ||
    message
  if (FULL.has(code) || status === 507) return { kind: 'full', why }
  // A refused HEAD has no code to tell a wrong clock from a wrong key.
  if (code === 'RequestTimeTooSkewed' || (clockCorrected && status === 403)) return { kind: 'clock', why }
  if (CREDENTIALS.has(code)) return refused(why, 'check the S3 credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE')
  if (status === undefined) {
    if (CERTIFICATE.test(code)) return refused(why, "the server's certificate is not trusted; name its authority with HOLDFAST_S3_CA")
    if (LOCAL_SHORTAGE.has(code)) return refused(why, 'this machine is short of descriptors or memory')
    if (code === 'TypeError' || code === 'RangeError')
      return refused(`${code}: ${message}`, 'the reply or the settings are not what S3 has')
    return { kind: 'retry', afterMs: 0, why }
  }
  if (status === 501 || code === 'NotImplemented') return { kind: 'no-conditions' }
  if (status === 412) return { kind: 'taken' }
  if (code === 'NoSuchBucket') return refused(why, 'the bucket does not exist; create it or correct the location')
  if (code === 'InvalidObjectState')
    return refused(
      why,
      'the object is in an archive; have the store restore it from there, and keep the rule that moves objects off this bucket',
    )
  if (status === 404) return { kind: 'not-found' }
  if (RETRY.has(code) || status === 408 || status === 409 || status === 429 || status >= 500)
    return { kind: 'retry', afterMs: retryAfterMs(headers), why }
  if (status === 400 && code === 'InvalidRequest' && /content-md5|x-amz-checksum/i.test(message)) return { kind: 'wants-checksum' }
  if (status >= 300 && status < 400) {
    const region = headers['x-amz-bucket-region']
    return refused(
      why,
      region === undefined
        ? 'the store answers elsewhere; correct endpoint and region'
        : `the bucket is in region ${printable(region)}; set HOLDFAST_S3_REGION`,
    )
  }
  if (status === 401 || status === 403) return refused(why, 'these credentials may not do this; check their policy')
  return refused(why, "check the store's address, bucket and settings")
}

/** The verdict as the product's error about `what`. */
export function verdictError(verdict: S3Verdict, act: string, what: string, cause: unknown): HoldfastError {
  const at = printable(what)
  const options = { cause, fields: { act } }
  switch (verdict.kind) {
    case 'retry':
      return new HoldfastError(
        'store-unreachable',
        `${act} of ${at} failed after several tries (${verdict.why}); check network and store, then run again`,
        options,
      )
    case 'full':
      return new HoldfastError(
        'store-full',
        `the store has no room to ${act} ${at} (${verdict.why}); raise the quota or free some`,
        options,
      )
    case 'refused':
      return new HoldfastError('store-refused', `the store refuses to ${act} ${at} (${verdict.why}); ${verdict.hint}`, options)
    case 'clock':
      return new HoldfastError(
        'store-refused',
        `the store refuses to ${act} ${at} (${verdict.why}); this machine's clock differs from the store's: set it right`,
        options,
      )
    case 'not-found':
      return new HoldfastError('not-found', `${at} is not in the store`, options)
    default:
      return new HoldfastError('store-refused', `the store refuses to ${act} ${at} (${verdict.kind})`, options)
  }
}

function refused(why: string, hint: string): S3Verdict {
  return { kind: 'refused', why, hint }
}

/** Seconds only: the form with a date is the store's clock against ours and not worth trusting. */
function retryAfterMs(headers: Readonly<Record<string, string>>): number {
  const text = headers['retry-after'] ?? ''
  return /^\d{1,6}$/.test(text) ? Number(text) * 1000 : 0
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

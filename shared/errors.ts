// The one error family of Holdfast. A caller tells errors apart by `code`, never by text; every message says
// what happened, to what, and what to do next. Codes are stable: they appear in `--json`, in the API and in jobs.

/** What every code means to the caller: its exit code on a command line, its HTTP status, and whether trying again can help. */
const CODES = {
  usage: { exit: 2, status: 400, retryable: false },
  'bad-config': { exit: 2, status: 400, retryable: false },
  failed: { exit: 1, status: 500, retryable: false },
  'not-found': { exit: 1, status: 404, retryable: false },
  conflict: { exit: 1, status: 409, retryable: false },
  'already-exists': { exit: 1, status: 409, retryable: false },
  'source-missing': { exit: 1, status: 422, retryable: false },
  'source-empty': { exit: 1, status: 422, retryable: false },
  'source-unreadable': { exit: 1, status: 422, retryable: false },
  'local-disk': { exit: 1, status: 500, retryable: false },
  incomplete: { exit: 3, status: 500, retryable: false },
  damaged: { exit: 4, status: 500, retryable: false },
  'no-repository': { exit: 10, status: 404, retryable: false },
  'newer-format': { exit: 10, status: 422, retryable: false },
  'wrong-passphrase': { exit: 12, status: 401, retryable: false },
  'wrong-key': { exit: 12, status: 401, retryable: false },
  'store-unreachable': { exit: 14, status: 503, retryable: true },
  'store-refused': { exit: 14, status: 502, retryable: false },
  'store-full': { exit: 14, status: 507, retryable: false },
  unread: { exit: 14, status: 502, retryable: true },
  'store-unsuitable': { exit: 15, status: 422, retryable: false },
  'server-unreachable': { exit: 14, status: 503, retryable: true },
  'server-untrusted': { exit: 15, status: 502, retryable: false },
  policy: { exit: 15, status: 403, retryable: false },
  'grant-required': { exit: 15, status: 403, retryable: false },
  'grant-refused': { exit: 15, status: 403, retryable: false },
  'journal-full': { exit: 15, status: 507, retryable: false },
  unauthenticated: { exit: 15, status: 401, retryable: false },
  forbidden: { exit: 15, status: 403, retryable: false },
  'too-large': { exit: 2, status: 413, retryable: false },
  'too-many': { exit: 1, status: 429, retryable: true },
  unprocessable: { exit: 2, status: 422, retryable: false },
  'lease-lost': { exit: 1, status: 409, retryable: false },
  cancelled: { exit: 130, status: 409, retryable: false },
} as const satisfies Record<string, { exit: number; status: number; retryable: boolean }>

export type ErrorCode = keyof typeof CODES

/** An error a person or a program can act on. `fields` holds plain values that explain it; never a secret, never file content. */
export class HoldfastError extends Error {
  override readonly name = 'HoldfastError'
  readonly code: ErrorCode
  readonly fields: Readonly<Record<string, string | number | boolean>>

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; fields?: Record<string, string | number | boolean> } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.fields = options.fields ?? {}
  }

  /** Process exit code, the same with and without `--json`. */
  get exitCode(): number {
    return CODES[this.code].exit
  }

  get httpStatus(): number {
    return CODES[this.code].status
  }

  /** True where the same call may succeed later without anyone changing anything. */
  get retryable(): boolean {
    return CODES[this.code].retryable
  }
}

/** True for an error of the family, narrowed to one of `codes` where any are given. */
export function isHoldfastError(error: unknown, ...codes: ErrorCode[]): error is HoldfastError {
  return error instanceof HoldfastError && (codes.length === 0 || codes.includes(error.code))
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(CODES, text)
}

/** `1 blob`, `2 blobs`: a number with its word, for messages. */
export function counted(count: number, one: string, many: string = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`
}

/** The message of anything thrown, for places that must print something; control characters are made visible. */
export function messageOf(error: unknown): string {
  return printable(error instanceof Error ? error.message : String(error))
}

/** Text from outside (names, replies, errors) made safe for a terminal or a log: control and bidi characters become escapes. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- finding control characters is the purpose
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, (c) => {
    const short = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }[c]
    return short ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}

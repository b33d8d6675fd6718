// What is signed between agent and server, to the byte, and the one-time enrolment code. Both sides use these functions and no others.
import { createHash } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { base32, keyFingerprint } from '../base32.ts'
import { canonicalJson } from '../canonical-json.ts'
import type { Json } from '../canonical-json.ts'
import { HoldfastError } from '../errors.ts'
import type { Random } from '../random.ts'
import { verifySignature } from '../signing.ts'
import type { SigningKey } from '../signing.ts'

/** A request is accepted only within this distance of the server's clock, and its nonce only once. */
export const REQUEST_WINDOW_MS = 5 * 60_000

export const HEADER = {
  agent: 'holdfast-agent',
  time: 'holdfast-time',
  nonce: 'holdfast-nonce',
  signature: 'holdfast-signature',
  serverSignature: 'holdfast-server-signature',
} as const

/** The value of the agent header while an agent has no id yet. */
export const NEW_AGENT = 'new'

export type RequestToSign = {
  /** Upper case. */
  readonly method: string
  /** The path with its query, as on the request line. */
  readonly path: string
  readonly timeMs: number
  /** 32 hex digits. */
  readonly nonce: string
  readonly body: Uint8Array
}

/** The bytes that an agent signs for one request. */
export function requestBytes(request: RequestToSign): Buffer {
  const { method, path, timeMs, nonce, body } = request
  return Buffer.from(`holdfast/1 request\n${method}\n${path}\n${timeMs}\n${nonce}\n${sha256Hex(body)}`, 'utf8')
}

/** The headers of a signed request. `agentId` is `new` for the enrolment request alone. */
export function signRequest(
  key: SigningKey,
  agentId: string,
  random: Random,
  request: Omit<RequestToSign, 'nonce'>,
): { headers: Record<string, string>; nonce: string } {
  const nonce = random.bytes(16).toString('hex')
  const signature = key.sign(requestBytes({ ...request, nonce })).toString('base64url')
  return {
    nonce,
    headers: {
      [HEADER.agent]: agentId,
      [HEADER.time]: String(request.timeMs),
      [HEADER.nonce]: nonce,
      [HEADER.signature]: signature,
    },
  }
}

/** The bytes that the server signs for its answer to the request with this nonce. */
export function responseBytes(status: number, requestNonce: string, body: Uint8Array): Buffer {
  return Buffer.from(`holdfast/1 response\n${status}\n${requestNonce}\n${sha256Hex(body)}`, 'utf8')
}

/** True where an answer comes from the pinned server and belongs to this very request. */
export function verifyResponse(
  serverKey: Uint8Array | KeyObject,
  answer: { status: number; requestNonce: string; body: Uint8Array; signature: string | undefined },
): boolean {
  if (answer.signature === undefined || !/^[A-Za-z0-9_-]{86}$/.test(answer.signature)) return false
  const bytes = responseBytes(answer.status, answer.requestNonce, answer.body)
  return verifySignature(serverKey, bytes, Buffer.from(answer.signature, 'base64url'))
}

/** The bytes that the server signs for a command: its canonical JSON without the signature. */
export function commandBytes(command: Json): Buffer {
  return Buffer.from(`holdfast/1 command\n${canonicalJson(command)}`, 'utf8')
}

/** The bytes that an agent signs for the fresh public key of one restore. */
export function restoreKeyBytes(restoreId: string, publicKey: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`holdfast/1 restore key\n${restoreId}\n`, 'utf8'), publicKey])
}

const SECRET_CHARACTERS = 25
const PIN_CHARACTERS = 20
export const ENROLMENT_CODE = /^hf1-([a-z2-7]{25})-([a-z2-7]{20})$/

/** A fresh code: 125 bits of secret and the first 100 bits of the server key's fingerprint, which pins the server at the agent. */
export function makeEnrolmentCode(random: Random, serverPublicKey: Uint8Array): { code: string; secret: string } {
  const secret = base32(random.bytes(16)).slice(0, SECRET_CHARACTERS)
  return { code: `hf1-${secret}-${pinOf(serverPublicKey)}`, secret }
}

/** The two halves of a code as a person typed it; `usage` where it is none. */
export function parseEnrolmentCode(typed: string): { secret: string; pin: string } {
  const match = ENROLMENT_CODE.exec(typed.trim().toLowerCase())
  if (match === null)
    throw new HoldfastError('usage', 'this is no enrolment code; it looks like hf1-(25 characters)-(20 characters), copy it whole')
  return { secret: match[1]!, pin: match[2]! }
}

/** True where the pin of an enrolment code is of this server key. */
export function pinMatches(pin: string, serverPublicKey: Uint8Array): boolean {
  return pin === pinOf(serverPublicKey)
}

/** What the server keeps of an enrolment code's secret. */
export function enrolmentSecretHash(secret: string): string {
  return sha256Hex(Buffer.from(`holdfast/1 enrolment\n${secret}`, 'utf8'))
}

export function sha256Hex(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function pinOf(serverPublicKey: Uint8Array): string {
  return keyFingerprint(serverPublicKey).replaceAll('-', '').slice(0, PIN_CHARACTERS)
}

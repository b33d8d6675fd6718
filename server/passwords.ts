// Passwords, one-time codes and the secrets of sessions and tokens: how they are made, kept and checked (obligation O19).
import { argon2, createHash, timingSafeEqual } from 'node:crypto'
import { Secret, TOTP } from 'otpauth'
import { base32 } from '@holdfast/shared/base32.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Random } from '@holdfast/shared/random.ts'

/** Argon2id with 64 MiB, three passes, four lanes: RFC 9106's second recommended option. */
const COST = { memory: 65_536, passes: 3, parallelism: 4 }
const PHC = /^\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{22})\$([A-Za-z0-9+/]{43})$/
const STEP_SECONDS = 30

/** The password's hash in PHC string form. Rejects one that is shorter than 12 characters with `usage`. */
export async function hashPassword(password: string, random: Random, cost: typeof COST = COST): Promise<string> {
  if (password.normalize('NFKC').length < 12) throw new HoldfastError('usage', 'a password has at least 12 characters; choose a longer one')
  const salt = random.bytes(16)
  const key = await derive(password, salt, cost)
  return `$argon2id$v=19$m=${cost.memory},t=${cost.passes},p=${cost.parallelism}$${plain64(salt)}$${plain64(key)}`
}

/** True where the password is the one that was hashed. */
export async function verifyPassword(password: string, stored: string): Promise<boolean> {
  const match = PHC.exec(stored)
  if (match === null) throw new HoldfastError('damaged', 'a stored password hash is not in the form that this program writes')
  const [, memory, passes, parallelism, salt, key] = match as unknown as [string, string, string, string, string, string]
  const cost = { memory: Number(memory), passes: Number(passes), parallelism: Number(parallelism) }
  return timingSafeEqual(await derive(password, Buffer.from(salt, 'base64'), cost), Buffer.from(key, 'base64'))
}

function derive(password: string, salt: Buffer, cost: typeof COST): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parameters = { message: Buffer.from(password.normalize('NFKC'), 'utf8'), nonce: salt, tagLength: 32, ...cost }
    argon2('argon2id', parameters, (error, key) => (error === null ? resolve(Buffer.from(key)) : reject(error)))
  })
}

function plain64(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '')
}

/** A fresh TOTP secret (RFC 6238, SHA-1, six digits, 30 s: what every authenticator reads). */
export function makeTotpSecret(random: Random): Buffer {
  return random.bytes(20)
}

/** What an authenticator scans. */
export function otpauthUri(secret: Buffer, userName: string): string {
  return totp(secret, userName).toString()
}

/** The time step that `code` belongs to, one step of clock difference allowed; undefined where it is of none. */
export function totpStep(secret: Buffer, code: string, nowMs: number): number | undefined {
  if (!/^\d{6}$/.test(code)) return undefined
  const delta = totp(secret, '').validate({ token: code, timestamp: nowMs, window: 1 })
  return delta === null ? undefined : Math.floor(nowMs / 1000 / STEP_SECONDS) + delta
}

/** The code of a moment; for the demo's and the tests' authenticator. */
export function totpCode(secret: Buffer, nowMs: number): string {
  return totp(secret, '').generate({ timestamp: nowMs })
}

function totp(secret: Buffer, userName: string): TOTP {
  const bytes = Uint8Array.from(secret)
  return new TOTP({
    issuer: 'Holdfast',
    label: userName || 'user',
    algorithm: 'SHA1',
    digits: 6,
    period: STEP_SECONDS,
    secret: new Secret({ buffer: bytes.buffer }),
  })
}

/** Ten recovery codes of 80 bits, each good once. */
export function makeRecoveryCodes(random: Random): string[] {
  return Array.from({ length: 10 }, () => base32(random.bytes(10)).match(/.{4}/g)!.join('-'))
}

/** What is kept of a secret that is random already: its SHA-256. */
export function secretHash(secret: string): string {
  return createHash('sha256').update(secret).digest('hex')
}

/** Compares two hashes in constant time. */
export function sameHash(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b))
}

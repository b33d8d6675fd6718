// Key objects: the domain root wrapped by a passphrase or a recovery code (FORMAT.md section 3), and opening the root from those a store holds.
// Promise: costs named in an object are checked before they are paid, and a damaged object never keeps another from opening the root.
import { argon2, createHash } from 'node:crypto'
import { promisify } from 'node:util'
import type { Random } from '@holdfast/shared/random.ts'
import { HoldfastError, isHoldfastError, printable } from '@holdfast/shared/errors.ts'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { encodeHeader, HEADER_BYTES, readHeader } from '@holdfast/shared/format/layout.ts'
import type { DomainRoot } from './domain.ts'
import { gcmOpen, gcmSeal, hkdf, requireLength } from './primitives.ts'
import { parseRecoveryCode } from './recovery-code.ts'

const argon2Async = promisify(argon2)

const KDF_PASSPHRASE = 1
const KDF_RECOVERY_CODE = 2
const LABEL_BYTES_MAX = 64
/** Header, key derivation, salt and nonce. */
const CLEAR_BYTES = HEADER_BYTES + 1 + 12 + 16 + 12
/** Root, time, the length of an empty label, and the tag. */
const SEALED_BYTES_MIN = 32 + 8 + 1 + 16
const KEY_OBJECT_BYTES_MAX = CLEAR_BYTES + SEALED_BYTES_MIN + LABEL_BYTES_MAX

/** Cost of Argon2id (RFC 9106). */
export type PassphraseCost = { readonly memoryKiB: number; readonly passes: number; readonly lanes: number }

/** The second recommendation of RFC 9106 section 4: 64 MiB, 3 passes, 4 lanes; about a tenth of a second. */
export const DEFAULT_COST: PassphraseCost = { memoryKiB: 64 * 1024, passes: 3, lanes: 4 }
const COST_LIMITS = { memoryKiB: [8 * 1024, 1024 * 1024], passes: [1, 16], lanes: [1, 16] } as const

/** What opens a root: `recoveryCode` is the code as typed or printed. */
export type Secret = { readonly passphrase: string } | { readonly recoveryCode: string }

export type WrapInput = DomainRoot & {
  readonly secret: Secret
  /** Shown by `key list`; at most 64 bytes of UTF-8. */
  readonly label: string
  /** Milliseconds since 1970. */
  readonly createdAt: number
  readonly random: Random
  /** For passphrases; the default unless given. */
  readonly cost?: PassphraseCost
}

/** What a key object shows without the secret. */
export type KeyObjectInfo = {
  readonly domainId: Buffer
  readonly kind: 'passphrase' | 'recovery-code'
  /** Undefined for a recovery code. */
  readonly cost: PassphraseCost | undefined
}

type ParsedKeyObject = KeyObjectInfo & {
  readonly salt: Buffer
  readonly nonce: Buffer
  readonly clear: Buffer
  readonly sealed: Buffer
}

export type UnwrappedRoot = DomainRoot & { readonly label: string; readonly createdAt: number }

/** The bytes of a key object that opens with `secret`. Throws `usage` for an empty passphrase, a label that is too long or a cost out of bounds. */
export async function wrapRoot(input: WrapInput): Promise<Buffer> {
  const { root, domainId, secret, label, createdAt, random } = input
  requireLength('domain root', root, 32)
  requireLength('domain id', domainId, 16)
  const labelBytes = Buffer.from(label, 'utf8')
  if (labelBytes.length > LABEL_BYTES_MAX || !label.isWellFormed()) {
    throw new HoldfastError('usage', `A key's label has at most ${LABEL_BYTES_MAX} bytes of UTF-8; give a shorter one.`)
  }
  const cost = 'passphrase' in secret ? (input.cost ?? DEFAULT_COST) : undefined
  if (cost !== undefined && !isCostAllowed(cost)) {
    throw new HoldfastError('usage', 'The cost of a passphrase is out of bounds: memory 8 MiB to 1 GiB, passes 1 to 16, lanes 1 to 16.')
  }
  const salt = random.bytes(16)
  const nonce = random.bytes(12)
  const clear = new ByteWriter(CLEAR_BYTES)
    .raw(encodeHeader('key', domainId, 0))
    .u8(cost === undefined ? KDF_RECOVERY_CODE : KDF_PASSPHRASE)
    .u32(cost?.memoryKiB ?? 0)
    .u32(cost?.passes ?? 0)
    .u32(cost?.lanes ?? 0)
    .raw(salt)
    .raw(nonce)
    .finish()
  const plain = new ByteWriter(128).raw(root).u64(createdAt).bytes(labelBytes).finish()
  const key = await wrappingKey(secret, salt, cost)
  try {
    return Buffer.concat([clear, gcmSeal(key, clear, plain, nonce)])
  } finally {
    plain.fill(0)
    key.fill(0)
  }
}

/** The name of a key object, from its bytes: so whoever has no secret can tell that it is what was stored. */
export function keyNameOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest().toString('hex', 0, 16)
}

/** Reads what a key object shows in the clear; `what` names it in refusals (`damaged`, `newer-format`). */
export function readKeyObject(bytes: Buffer, what: string): KeyObjectInfo {
  return parseKeyObject(bytes, what)
}

function parseKeyObject(bytes: Buffer, what: string): ParsedKeyObject {
  const reader = new ByteReader(bytes, what)
  const { domainId } = readHeader(bytes, { type: 'key', what })
  if (bytes.length > KEY_OBJECT_BYTES_MAX) throw reader.refuse('it is too long')
  reader.raw(HEADER_BYTES)
  const kdf = reader.u8()
  const cost = { memoryKiB: reader.u32(), passes: reader.u32(), lanes: reader.u32() }
  if (kdf === KDF_PASSPHRASE) {
    if (!isCostAllowed(cost)) throw reader.refuse('the cost of its passphrase is out of bounds')
  } else if (kdf === KDF_RECOVERY_CODE) {
    if (cost.memoryKiB !== 0 || cost.passes !== 0 || cost.lanes !== 0) throw reader.refuse('a recovery code has no cost')
  } else throw reader.refuse(`key derivation ${kdf} does not exist`)
  const salt = reader.raw(16)
  const nonce = reader.raw(12)
  if (reader.left < SEALED_BYTES_MIN) throw reader.refuse('it is cut short')
  const isPassphrase = kdf === KDF_PASSPHRASE
  return {
    domainId,
    kind: isPassphrase ? 'passphrase' : 'recovery-code',
    cost: isPassphrase ? cost : undefined,
    salt,
    nonce,
    clear: bytes.subarray(0, CLEAR_BYTES),
    sealed: reader.raw(reader.left),
  }
}

/** The root in a key object, or undefined where the secret does not open it. Throws `damaged` for bytes that cannot be a key object. */
export async function unwrapRoot(bytes: Buffer, secret: Secret, what: string): Promise<UnwrappedRoot | undefined> {
  return unwrapParsed(parseKeyObject(bytes, what), secret, what)
}

async function unwrapParsed(parsed: ParsedKeyObject, secret: Secret, what: string): Promise<UnwrappedRoot | undefined> {
  if (parsed.kind !== kindOf(secret)) return undefined
  const key = await wrappingKey(secret, parsed.salt, parsed.cost)
  const plain = gcmOpen(key, parsed.clear, parsed.sealed, parsed.nonce)
  key.fill(0)
  if (plain === undefined) return undefined
  const reader = new ByteReader(plain, what)
  const root = Buffer.from(reader.raw(32))
  const createdAt = reader.u64()
  const label = utf8(reader, reader.bytes(LABEL_BYTES_MAX))
  reader.end()
  plain.fill(0)
  return { root, domainId: Buffer.from(parsed.domainId), label, createdAt }
}

export type NamedObject = { readonly name: string; readonly bytes: Buffer }
export type UnlockedRoot = UnwrappedRoot & { readonly keyName: string }

/**
 * The root from whichever of the key objects the secret opens; the cheapest is tried first, so that nobody waits for dear ones that a stranger stored,
 * and every one, so that no number of them keeps a person's own from being tried. Throws `wrong-passphrase` where none opens,
 * `not-found` where there is none, `damaged` or `newer-format` where all are, `damaged` too where all that it could open have changed since they were stored.
 * @param domainId where known: objects of another domain are passed over like damaged ones, so that a swapped key cannot lead elsewhere.
 */
export async function unlockRoot(keyObjects: readonly NamedObject[], secret: Secret, domainId?: Buffer): Promise<UnlockedRoot> {
  if (keyObjects.length === 0) {
    throw new HoldfastError(
      'not-found',
      'No key object is here. A repository of an enrolled domain keeps none: name the domain’s key file, which is on the controller’s machine.',
    )
  }
  requireSecret(secret)
  const { usable, refusals } = sortOut(keyObjects, domainId)
  if (usable.length === 0) throw worstOf(refusals, keyObjects.length)
  const candidates = usable.filter(({ parsed }) => parsed.kind === kindOf(secret))
  for (const { name, parsed } of candidates) {
    try {
      const opened = await unwrapParsed(parsed, secret, name)
      if (opened !== undefined) return { ...opened, keyName: name }
    } catch (error) {
      // One bad object must not block the others (it may open and still be malformed); it is named if none opens.
      if (!isHoldfastError(error, 'damaged', 'failed')) throw error
      refusals.push({ name, error })
    }
  }
  const failed = refusals.find(({ error }) => error.code === 'failed')
  if (failed !== undefined) throw failed.error
  const changed = keyObjects.filter(({ name, bytes }) => KEY_NAME.test(name) && keyNameOf(bytes) !== name).map(({ name }) => name)
  if (changed.length > 0 && candidates.every(({ name }) => changed.includes(name)))
    throw allChanged(secret, changed, changed.length < keyObjects.length)
  throw nothingOpened(secret, candidates.length, refusals, changed)
}

/** A name that tells of the bytes; a key file of a person's own may have any other. */
const KEY_NAME = /^[0-9a-f]{32}$/

function allChanged(secret: Secret, changed: readonly string[], isOtherLeft: boolean): HoldfastError {
  const [subject, other] = 'passphrase' in secret ? ['passphrase', 'recovery code'] : ['recovery code', 'passphrase']
  return new HoldfastError(
    'damaged',
    `Every key here that the ${subject} could open is damaged, so whether it is right cannot be told: ${namesOf(changed)} ${changed.length === 1 ? 'is' : 'are'} not what was stored. Restore ${changed.length === 1 ? 'it' : 'one'} from a copy${isOtherLeft ? `, or try the ${other}` : ''}.`,
  )
}

type Refusal = { readonly name: string; readonly error: HoldfastError }

function sortOut(keyObjects: readonly NamedObject[], domainId: Buffer | undefined) {
  const usable: { name: string; parsed: ParsedKeyObject }[] = []
  const refusals: Refusal[] = []
  for (const { name, bytes } of keyObjects) {
    try {
      const parsed = parseKeyObject(bytes, name)
      if (domainId !== undefined && !parsed.domainId.equals(domainId)) {
        throw new HoldfastError('damaged', `${printable(name)} belongs to another domain than this repository`)
      }
      usable.push({ name, parsed })
    } catch (error) {
      if (!isHoldfastError(error, 'damaged', 'newer-format')) throw error
      refusals.push({ name, error })
    }
  }
  usable.sort((a, b) => workOf(a.parsed) - workOf(b.parsed) || (a.name < b.name ? -1 : 1))
  return { usable, refusals }
}

function worstOf(refusals: readonly Refusal[], count: number): HoldfastError {
  const newer = refusals.find(({ error }) => error.code === 'newer-format')
  if (newer !== undefined) return newer.error
  return new HoldfastError(
    'damaged',
    `None of the ${count} key objects here can be read (${namesOf(refusals.map(({ name }) => name))}). Restore one from a copy.`,
    {
      cause: refusals[0]?.error,
    },
  )
}

function nothingOpened(secret: Secret, tried: number, refusals: readonly Refusal[], changed: readonly string[]): HoldfastError {
  const [subject, other] = 'passphrase' in secret ? ['passphrase', 'recovery code'] : ['recovery code', 'passphrase']
  const damage = refusals.length === 0 ? '' : ` ${refusals.length} more could not be read (${namesOf(refusals.map(({ name }) => name))}).`
  const message =
    tried === 0
      ? `No key here opens with a ${subject}: give the ${other}.`
      : `Wrong ${subject}: it ${tried === 1 ? 'does not open the one key here that takes one' : `opens none of the ${tried} keys here that take one`}. Check how it is written, or give the ${other} instead.`
  const rot =
    changed.length === 0 ? '' : ` Not what was stored, so that no secret may open it: ${namesOf(changed)}; restore it from a copy.`
  return new HoldfastError('wrong-passphrase', message + damage + rot, { fields: { tried, unreadable: refusals.length } })
}

function namesOf(names: readonly string[]): string {
  return names.slice(0, 4).map(printable).join(', ') + (names.length > 4 ? ', …' : '')
}

function kindOf(secret: Secret): KeyObjectInfo['kind'] {
  return 'passphrase' in secret ? 'passphrase' : 'recovery-code'
}

function workOf({ cost }: ParsedKeyObject): number {
  return cost === undefined ? 0 : cost.memoryKiB * cost.passes
}

function isCostAllowed(cost: PassphraseCost): boolean {
  return (['memoryKiB', 'passes', 'lanes'] as const).every((name) => {
    const [least, most] = COST_LIMITS[name]
    return Number.isInteger(cost[name]) && cost[name] >= least && cost[name] <= most
  })
}

/** Throws where the secret cannot be right, before any work is done for it. */
function requireSecret(secret: Secret): void {
  if ('recoveryCode' in secret) parseRecoveryCode(secret.recoveryCode)
  else normalised(secret.passphrase)
}

function normalised(passphrase: string): Buffer {
  if (passphrase === '') throw new HoldfastError('usage', 'The passphrase is empty. Give one that is not.')
  if (!passphrase.isWellFormed()) throw new HoldfastError('usage', 'The passphrase is not valid text. Give it in UTF-8.')
  // The same characters typed on two systems can arrive as different bytes; NFC makes them one.
  return Buffer.from(passphrase.normalize('NFC'), 'utf8')
}

async function wrappingKey(secret: Secret, salt: Buffer, cost: PassphraseCost | undefined): Promise<Buffer> {
  if ('recoveryCode' in secret) return hkdf(parseRecoveryCode(secret.recoveryCode), salt, 'holdfast/1 recovery code')
  const { memoryKiB, passes, lanes } = cost ?? DEFAULT_COST
  const message = normalised(secret.passphrase)
  try {
    return await argon2Async('argon2id', { message, nonce: salt, memory: memoryKiB, passes, parallelism: lanes, tagLength: 32 })
  } catch (cause) {
    throw new HoldfastError(
      'failed',
      `The passphrase could not be checked: ${memoryKiB / 1024} MiB of memory were needed. Free some and try again.`,
      {
        cause,
      },
    )
  } finally {
    message.fill(0)
  }
}

function utf8(reader: ByteReader, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    // The decoder says no more than that these bytes are not UTF-8.
    throw reader.refuse('its label is not UTF-8')
  }
}

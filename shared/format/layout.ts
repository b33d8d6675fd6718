// Names, types, the common header and the limits of repository format 1 (FORMAT.md sections 2 and 11).
import { HoldfastError } from '../errors.ts'
import type { ObjectName } from '../store/store.ts'
import { ByteReader } from './bytes.ts'

export const FORMAT_VERSION = 1
export const HEADER_BYTES = 32
const MAGIC = Buffer.from('HOLDFAST', 'latin1')

export const OBJECT_TYPE = {
  repository: 1,
  key: 2,
  session: 3,
  pack: 4,
  index: 5,
  snapshot: 6,
  roster: 7,
  bundle: 8,
  grant: 9,
  list: 10,
  forget: 11,
  end: 13,
} as const
export type ObjectType = keyof typeof OBJECT_TYPE
/** What follows the header of these is sealed under no key that has epochs, or not at all: their epoch is 0. */
const WITHOUT_EPOCH: ReadonlySet<ObjectType> = new Set<ObjectType>(['repository', 'key', 'bundle', 'grant', 'list'])

export const LIMITS = {
  packBytes: 64 * 2 ** 20,
  packMinBytes: 128 * 2 ** 10,
  indexBytes: 64 * 2 ** 20,
  snapshotBytes: 64 * 2 ** 20,
  listBytes: 64 * 2 ** 20,
  forgetBytes: 64 * 2 ** 20,
  objectBytes: 2 ** 20,
  segmentPlainBytes: 16 * 2 ** 20,
  blobsPerSegment: 65_536,
  nodePartBytes: 8 * 2 ** 20,
  entriesPerNode: 65_536,
  referencesPerNode: 65_536,
  chunkBytes: 16 * 2 ** 20,
  inlineBytes: 256,
  depth: 4_096,
  pageLevels: 8,
  nameBytes: 255,
  targetBytes: 4_095,
  attributeNameBytes: 255,
  attributeValueBytes: 65_536,
  attributes: 1_024,
  extents: 65_536,
} as const

/** 32 bytes: magic, version, type, zero, epoch, domain. */
export function encodeHeader(type: ObjectType, domainId: Buffer, epoch: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  MAGIC.copy(header)
  header.writeUInt8(FORMAT_VERSION, 8)
  header.writeUInt8(OBJECT_TYPE[type], 9)
  header.writeUInt32LE(epoch, 12)
  domainId.copy(header, 16)
  return header
}

/**
 * Checks the header of an object and gives the epoch. Without `domainId` any domain is accepted and returned. Throws `newer-format` for a
 * higher version, `damaged` for anything else that is not as expected.
 */
export function readHeader(
  object: Buffer,
  expected: { type: ObjectType; domainId?: Buffer; what: string },
): { epoch: number; domainId: Buffer } {
  const reader = new ByteReader(object, expected.what)
  if (!reader.raw(8).equals(MAGIC)) throw reader.refuse('it is not a Holdfast object')
  const version = reader.u8()
  if (version > FORMAT_VERSION)
    throw new HoldfastError(
      'newer-format',
      `${expected.what} was made by a newer Holdfast (format ${version}); this one reads format ${FORMAT_VERSION}: install the newer version`,
    )
  if (version !== FORMAT_VERSION) throw reader.refuse(`format version ${version} does not exist`)
  const type = reader.u8()
  if (type !== OBJECT_TYPE[expected.type]) throw reader.refuse(`it is an object of type ${type}, not a ${expected.type}`)
  reader.zeros(2)
  const epoch = reader.u32()
  if (epoch !== 0 && WITHOUT_EPOCH.has(expected.type)) throw reader.refuse('its epoch is not zero')
  const domainId = reader.raw(16)
  if (expected.domainId !== undefined && !domainId.equals(expected.domainId)) throw reader.refuse('it belongs to another domain')
  return { epoch, domainId }
}

/** The session and random part in an object's name, as hex: what FORMAT.md calls S and R. */
export type ObjectRef = { readonly session: string; readonly random: string }

const PREFIX = { index: 'index/', snapshot: 'snapshots/', roster: 'rosters/', list: 'lists/', forget: 'lists/forgets/' } as const
/** Collection lists and forget records stand under one prefix, so that one listing tells of both. */
export const LISTS_PREFIX = 'lists/'

export function packName(ref: ObjectRef): ObjectName {
  return `packs/${ref.random.slice(0, 2)}/${ref.session}-${ref.random}`
}

export function objectName(kind: keyof typeof PREFIX, ref: ObjectRef): ObjectName {
  return `${PREFIX[kind]}${ref.session}-${ref.random}`
}

const REF = /^([0-9a-f]{32})-([0-9a-f]{32})$/

/** The parts of an object's name, or undefined for a name that this product did not make. */
export function parseObjectName(name: ObjectName): ObjectRef | undefined {
  const last = name.slice(name.lastIndexOf('/') + 1)
  const match = REF.exec(last)
  if (match === null) return undefined
  const ref = { session: match[1]!, random: match[2]! }
  return name === packName(ref) || Object.values(PREFIX).some((prefix) => name === prefix + last) ? ref : undefined
}

export function sessionName(session: string): ObjectName {
  return `sessions/${session}`
}

/** The object that says that a session ended without a snapshot. */
export function endName(session: string): ObjectName {
  return `ends/${session}`
}

const SESSION_NAME = /^(?:sessions|ends)\/([0-9a-f]{32})$/

/** The session in the name of a session or end object, or undefined for another name. */
export function parseSessionName(name: ObjectName): string | undefined {
  return SESSION_NAME.exec(name)?.[1]
}

/** One text for both parts of a name: what maps and sets are keyed with. */
export function refKey(ref: ObjectRef): string {
  return `${ref.session}-${ref.random}`
}

export function refBytes(ref: ObjectRef): Buffer {
  return Buffer.from(ref.session + ref.random, 'hex')
}

export function readRef(reader: ByteReader): ObjectRef {
  return { session: reader.hex(16), random: reader.hex(16) }
}

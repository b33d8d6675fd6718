// Collection lists (FORMAT.md section 13): what was condemned, what was taken back, and what is to be deleted. They stand open and signed, since
// they hold names alone, which the store shows anyway: the server deletes what one names without any key of the domain. Pure codec.
import { HoldfastError } from '../errors.ts'
import { ByteReader, ByteWriter } from './bytes.ts'
import { encodeHeader, HEADER_BYTES, LIMITS, OBJECT_TYPE, type ObjectRef, readHeader, readRef, refBytes } from './layout.ts'
import { signBody, verifyBody } from './signed-body.ts'

/** Why a pack was condemned: nothing in it is needed; less than half of it is, and writers store that again; or it was never part of a snapshot. */
export const CONDEMNED_WHY = { dead: 1, reuse: 2 } as const
export type CondemnedWhy = keyof typeof CONDEMNED_WHY

export type CondemnedPack = ObjectRef & { readonly bytes: number; readonly why: CondemnedWhy }

/** What a deletion may name. Keys, rosters and the description of the repository are never deleted by collection. */
export const DELETABLE = { session: 3, pack: 4, index: 5, snapshot: 6, list: 10, forget: 11, end: 13 } as const
export type DeletableKind = keyof typeof DELETABLE
/** `random` is 32 zeros for a session and an end, which have none. */
export type DeletableName = ObjectRef & { readonly kind: DeletableKind }

export type CollectionListBody =
  | {
      readonly kind: 'condemned'
      /** The snapshots that this collection counted as kept. One that is gone later, without a forget record, stops every collection. */
      readonly kept: readonly ObjectRef[]
      readonly packs: readonly CondemnedPack[]
    }
  | { readonly kind: 'revived'; readonly from: readonly { readonly list: ObjectRef; readonly packs: readonly ObjectRef[] }[] }
  | {
      readonly kind: 'deletion'
      /** Lists that condemned the packs named here. */
      readonly lists: readonly ObjectRef[]
      readonly names: readonly DeletableName[]
    }

export type CollectionList = CollectionListBody & {
  readonly ref: ObjectRef
  /** 16 bytes. */
  readonly writerId: Buffer
  /** By the writer's clock, in milliseconds; the store's own time is what counts. */
  readonly madeAt: number
}

const LIST_KIND = { condemned: 1, revived: 2, deletion: 3 } as const
const NAMES_MAX = 1_000_000

/** A whole list object, signed by `writer`. */
export function encodeCollectionList(
  list: CollectionListBody & { readonly ref: ObjectRef; readonly madeAt: number },
  domainId: Buffer,
  writer: { readonly id: Buffer; readonly publicKey: Buffer; readonly sign: (message: Uint8Array) => Buffer },
): Buffer {
  const counts =
    list.kind === 'condemned'
      ? [list.kept, list.packs]
      : list.kind === 'revived'
        ? [list.from, ...list.from.map(({ packs }) => packs)]
        : [list.lists, list.names]
  if (counts.some(({ length }) => length > NAMES_MAX))
    throw new HoldfastError('failed', `a collection list of more than ${NAMES_MAX} names cannot be made; nothing was stored`)
  const out = new ByteWriter().raw(encodeHeader('list', domainId, 0))
  out.raw(refBytes(list.ref)).raw(writer.id).u64(list.madeAt).u8(LIST_KIND[list.kind])
  const refs = (all: readonly ObjectRef[]): void => {
    out.varint(all.length)
    for (const ref of all) out.raw(refBytes(ref))
  }
  if (list.kind === 'condemned') {
    refs(list.kept)
    out.varint(list.packs.length)
    for (const pack of list.packs) out.raw(refBytes(pack)).u64(pack.bytes).u8(CONDEMNED_WHY[pack.why])
  } else if (list.kind === 'revived') {
    out.varint(list.from.length)
    for (const { list: from, packs } of list.from) {
      out.raw(refBytes(from))
      refs(packs)
    }
  } else {
    refs(list.lists)
    out.varint(list.names.length)
    for (const name of list.names) out.u8(DELETABLE[name.kind]).raw(refBytes(name))
  }
  out.raw(writer.publicKey)
  return Buffer.concat([out.view(), signBody(writer, OBJECT_TYPE.list, domainId, out.view())])
}

/**
 * Opens a list that must be the one named `ref`, and checks that the key in it signed it; whether that writer is to be trusted is for the
 * caller. Throws `damaged` or `newer-format`.
 */
export function decodeCollectionList(object: Buffer, ref: ObjectRef, domainId: Buffer): { list: CollectionList; writerKey: Buffer } {
  const what = `collection list ${ref.random}`
  if (object.length > LIMITS.listBytes) throw new HoldfastError('damaged', `${what} is damaged: it is too long`)
  readHeader(object, { type: 'list', domainId, what })
  const reader = new ByteReader(object, what)
  if (object.length < HEADER_BYTES + 96) throw reader.refuse('it is too short')
  const signed = object.subarray(0, object.length - 64)
  const writerKey = Buffer.from(signed.subarray(signed.length - 32))
  if (!verifyBody(writerKey, OBJECT_TYPE.list, domainId, signed, object.subarray(signed.length)))
    throw reader.refuse('its signature is not its writer’s')
  const body = new ByteReader(signed.subarray(0, signed.length - 32), what)
  body.raw(HEADER_BYTES)
  const named = readRef(body)
  if (named.session !== ref.session || named.random !== ref.random) throw body.refuse('it is another list under this name')
  const head = { ref, writerId: Buffer.from(body.raw(16)), madeAt: body.u64() }
  const list: CollectionList = { ...head, ...readBody(body) }
  body.end()
  return { list, writerKey }
}

function readBody(body: ByteReader): CollectionListBody {
  const kind = body.u8()
  const refs = (): ObjectRef[] => Array.from({ length: body.count(NAMES_MAX, 32) }, () => readRef(body))
  if (kind === LIST_KIND.condemned) {
    const kept = refs()
    const packs = Array.from({ length: body.count(NAMES_MAX, 41) }, () => ({ ...readRef(body), bytes: body.u64(), why: readWhy(body) }))
    return { kind: 'condemned', kept, packs }
  }
  if (kind === LIST_KIND.revived)
    return { kind: 'revived', from: Array.from({ length: body.count(NAMES_MAX, 33) }, () => ({ list: readRef(body), packs: refs() })) }
  if (kind === LIST_KIND.deletion) {
    const lists = refs()
    return { kind: 'deletion', lists, names: Array.from({ length: body.count(NAMES_MAX, 33) }, () => readName(body)) }
  }
  throw body.refuse(`lists of kind ${kind} do not exist`)
}

function readWhy(body: ByteReader): CondemnedWhy {
  const why = body.u8()
  if (why === CONDEMNED_WHY.dead) return 'dead'
  if (why === CONDEMNED_WHY.reuse) return 'reuse'
  throw body.refuse(`a pack in it is condemned for a reason that does not exist (${why})`)
}

const NO_RANDOM = '0'.repeat(32)

function readName(body: ByteReader): DeletableName {
  const type = body.u8()
  const kind = (Object.keys(DELETABLE) as DeletableKind[]).find((name) => DELETABLE[name] === type)
  if (kind === undefined) throw body.refuse(`it names an object of type ${type}, which no collection deletes`)
  const ref = readRef(body)
  if ((kind === 'session' || kind === 'end') !== (ref.random === NO_RANDOM)) throw body.refuse('a name in it cannot be')
  return { kind, ...ref }
}

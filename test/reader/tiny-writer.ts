// Writes the smallest repositories that FORMAT.md allows, from the document alone, so that the reader is checked without the product's writer:
// one session, one pack with every segment stored as it is, one index file, one snapshot, signed by the root writer.
import { Blake3Hasher } from '@napi-rs/blake-hash'
import {
  createCipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  encapsulate,
  hash,
  hkdfSync,
} from 'node:crypto'
import { sign } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { zstdCompressSync } from 'node:zlib'
import { readerPrimitives } from './reader-support.ts'

const { pad, xwingKeys } = await readerPrimitives()
type Part = Buffer | string | number
export const cat = (...parts: readonly Part[]): Buffer =>
  Buffer.concat(parts.map((p) => (typeof p === 'number' ? Buffer.of(p) : typeof p === 'string' ? Buffer.from(p) : p)))
export const u16 = (n: number): Buffer => Buffer.from([n & 255, n >> 8])
export const u32 = (n: number): Buffer => Buffer.concat([u16(n & 0xffff), u16(n >>> 16)])
export const u64 = (n: number): Buffer => Buffer.concat([u32(n % 2 ** 32), u32(Math.floor(n / 2 ** 32))])
export const varint = (n: number | bigint): Buffer => {
  const bytes = []
  let rest = BigInt(n)
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128)
  return Buffer.from([...bytes, Number(rest)])
}
export const bytes = (value: Buffer | string): Buffer => cat(varint(Buffer.byteLength(value)), value)
const hmac = (key: Buffer, ...parts: readonly Part[]): Buffer =>
  createHmac('sha256', key)
    .update(cat(...parts))
    .digest()
const hkdf = (ikm: Buffer, salt: Buffer, info: Part): Buffer => Buffer.from(hkdfSync('sha256', ikm, salt, cat(info), 32))
const b3 = (data: Buffer): Buffer => new Blake3Hasher().update(data).digestBuffer()
const b3k = (key: Buffer, data: Buffer): Buffer => Blake3Hasher.newKeyed(key).update(data).digestBuffer()
const gcm = (key: Buffer, aad: Buffer, plain: Buffer, nonce = Buffer.alloc(12)): Buffer => {
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad)
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}
const sha256 = (data: Buffer): Buffer => createHash('sha256').update(data).digest()
const root = Buffer.alloc(32, 1)
const domain = Buffer.alloc(16, 2)
const session = Buffer.alloc(16, 3)
const sessionKey = Buffer.alloc(32, 4)
const derive = (label: string, epoch = 0): Buffer => hkdf(root, domain, cat(`holdfast/1 ${label}`, u32(epoch)))
const structure = derive('structure', 1)
const ed25519 = (seed: Buffer) =>
  createPrivateKey({ key: cat(Buffer.from('302e020100300506032b657004220420', 'hex'), seed), format: 'der', type: 'pkcs8' })
const raw = (seed: Buffer): Buffer => createPublicKey(ed25519(seed)).export({ format: 'der', type: 'spki' }).subarray(-32)
const head = (type: number, epoch: number): Buffer => cat('HOLDFAST', 1, type, 0, 0, u32(epoch), domain)

function box(type: number, body: Buffer, seed: Buffer): Buffer {
  const header = head(type, 1)
  const writer = raw(seed)
  const signature = sign(null, cat('holdfast/1 signed\n', type, domain, sha256(cat(body, writer))), ed25519(seed))
  const p = Buffer.alloc(pad(104 + body.length))
  cat(u64(body.length), body, writer, signature).copy(p)
  const id = hmac(hmac(structure, 'holdfast/1 content id'), type, p)
  return cat(id, gcm(hmac(structure, 'holdfast/1 seal', type, id), cat(header, id), p))
}

function sessionEntry(): Buffer {
  const keys = xwingKeys(derive('content', 1))
  const spki = (prefix: string, key: Buffer) => createPublicKey({ key: cat(Buffer.from(prefix, 'hex'), key), format: 'der', type: 'spki' })
  const mlkem = encapsulate(spki('308204b2300b0609608648016503040402038204a100', keys.public.subarray(0, 1184)))
  const pkcs8 = {
    key: cat(Buffer.from('302e020100300506032b656e04220420', 'hex'), Buffer.alloc(32, 5)),
    format: 'der',
    type: 'pkcs8',
  } as const
  const ephemeral = createPrivateKey(pkcs8)
  const publicPart = createPublicKey(ephemeral).export({ format: 'der', type: 'spki' }).subarray(-32)
  const x = keys.public.subarray(1184)
  const dh = diffieHellman({ privateKey: ephemeral, publicKey: spki('302a300506032b656e032100', x) })
  const shared = hash('sha3-256', cat(mlkem.sharedKey, dh, publicPart, x, Buffer.from('5c2e2f2f5e5c', 'hex')), 'buffer')
  const wrap = hkdf(shared, Buffer.alloc(0), 'holdfast/1 session')
  const sealed = cat(mlkem.ciphertext, publicPart, gcm(wrap, cat(domain, session), sessionKey))
  return cat(session, u32(1), sealed, hmac(sessionKey, 'holdfast/1 commitment', session))
}

type Blob = { readonly id: Buffer; readonly data: Buffer }
function segment(kind: number, data: Buffer, codec: 0 | 1): { readonly id: Buffer; readonly sealed: Buffer } {
  const base = kind === 3 ? structure : sessionKey
  const payload = codec === 1 ? zstdCompressSync(data) : data
  const id = b3k(hmac(base, 'holdfast/1 segment id'), cat(kind, codec, payload))
  return { id, sealed: gcm(hmac(base, 'holdfast/1 segment', id), cat(1, domain, kind, codec, u32(1), id), payload) }
}

/** State 1 active, 2 revoked, and since when, in ms; the session is said to have begun at 9 ms. */
export type Agent = { readonly state: 0 | 1 | 2; readonly since: number }

/** Seed and writer id. */
const AGENT = [Buffer.alloc(32, 11), Buffer.alloc(16, 12)] as const
const ROOT = [derive('writer'), Buffer.alloc(16)] as const

function putIn(directory: string, name: string, data: Buffer): string {
  mkdirSync(dirname(join(directory, name)), { recursive: true })
  writeFileSync(join(directory, name), data)
  return name
}

/** A repository in the making: blobs are added, then it is written with the id of the root node. */
export class TinyWriter {
  readonly recoveryCode: Buffer = Buffer.alloc(20, 6)
  private readonly agent: Agent | undefined
  /** With an agent, that agent signs as writer, and a roster lists it unless its state is 0. */
  constructor(agent?: Agent) {
    this.agent = agent
  }
  private readonly kinds: readonly Blob[][] = [[], [], [], []]
  private add(kind: number, id: Buffer, data: Buffer): void {
    if (!this.kinds[kind]?.some((blob) => blob.id.equals(id))) this.kinds[kind]?.push({ id, data })
  }
  chunk(data: Buffer): Buffer {
    const id = b3k(derive('id'), data)
    this.add(1, id, data)
    return id
  }
  node(type: number, part: Buffer, references: readonly (readonly [0 | 1, Buffer])[]): Buffer {
    const tree = derive('tree id')
    const list = references.map(([what, id]) => cat(what, id))
    const r = cat(1, type, b3k(tree, cat('private', part)), varint(references.length), ...list)
    const id = b3k(tree, cat('node', r))
    this.add(2, id, part)
    this.add(3, id, r)
    return id
  }
  /** A roster that lists the agent. */
  list(directory: string, { state, since }: Agent): void {
    const member = cat(AGENT[1], raw(AGENT[0]), Buffer.alloc(20, 13), state, u64(since), bytes('box'))
    const roster = box(7, cat(u32(1), u64(6), varint(1), member), derive('sign'))
    putIn(directory, `rosters/${'cd'.repeat(16)}-${'ef'.repeat(16)}`, cat(head(7, 1), roster))
  }
  /** A forget record by the agent or the root writer, of a snapshot of that name, or one that undoes what record `undone` says of it. Its number tells it from others; it replaces record `merged`. */
  forget(directory: string, by: 'agent' | 'root', number: number, snapshot: string, undone?: number, merged?: number): void {
    const [seed, writerId] = by === 'agent' ? AGENT : ROOT
    const refOf = (n: number): Buffer => Buffer.alloc(32, n)
    const target = Buffer.from(snapshot.slice('snapshots/'.length).replace('-', ''), 'hex')
    const entry = cat(target, Buffer.alloc(32), u64(1), Buffer.alloc(32), 2)
    const says = undone === undefined ? cat(varint(1), entry, varint(0)) : cat(varint(0), varint(1), refOf(undone), target)
    const replaced = merged === undefined ? varint(0) : cat(varint(1), refOf(merged))
    const name = refOf(number).toString('hex', 0, 16)
    putIn(
      directory,
      `lists/forgets/${name}-${name}`,
      cat(head(11, 1), box(11, cat(refOf(number), writerId, u64(20), replaced, says), seed)),
    )
  }
  /** Gives the name of the pack, of the index file and of the snapshot. The counts are those of the tree: files, directories, bytes. */
  write(
    directory: string,
    rootNode: Buffer,
    counted: readonly [number, number, number],
  ): { readonly pack: string; readonly index: string; readonly snapshot: string } {
    const put = (name: string, data: Buffer): string => putIn(directory, name, data)
    const [seed, writerId] = this.agent ? AGENT : ROOT
    const described = cat(head(1, 0), u64(1), 1, u32(1), u32(2), u32(3), 0, raw(derive('sign')))
    put('repository', cat(described, sign(null, cat('holdfast/1 signed\n', 1, domain, sha256(described)), ed25519(derive('sign')))))
    const salt = Buffer.alloc(16, 7)
    const wrap = cat(head(2, 0), 2, Buffer.alloc(12), salt, Buffer.alloc(12, 8))
    const key = hkdf(this.recoveryCode, salt, 'holdfast/1 recovery code')
    put(`keys/${'ab'.repeat(16)}`, cat(wrap, gcm(key, wrap, cat(root, u64(5), bytes('label')), Buffer.alloc(12, 8))))
    if (this.agent && this.agent.state > 0) this.list(directory, this.agent)
    const entry = sessionEntry()
    put(`sessions/${session.toString('hex')}`, cat(head(3, 1), box(3, cat(entry, writerId, u64(9)), seed)))
    const random = Buffer.alloc(16, 0x1a)
    const name = `${session.toString('hex')}-${random.toString('hex')}`
    const used = [1, 2, 3].filter((kind) => (this.kinds[kind]?.length ?? 0) > 0)
    const segments = used.map((kind) => {
      const blobs = this.kinds[kind] ?? []
      const data = cat(...blobs.map((blob) => blob.data))
      const codec = kind === 2 ? 0 : 1
      return { kind, codec, blobs, plain: data.length, ...segment(kind, data, codec) } as const
    })
    const listed = segments.map((s) => {
      const blobs = s.blobs.map((blob) => cat(blob.id, varint(blob.data.length)))
      const lengths = cat(varint(s.sealed.length), varint(s.plain))
      return cat(s.kind, s.codec, 0, u32(1), lengths, s.id, b3(s.sealed), varint(blobs.length), ...blobs)
    })
    const footer = cat(head(4, 1), box(4, cat(session, random, writerId, varint(1), entry, varint(listed.length), ...listed), seed))
    const held = cat(...segments.map((s) => s.sealed))
    const size = Math.max(131072, pad(held.length + footer.length + 96))
    const before = cat(held, footer, Buffer.alloc(size - 96 - held.length - footer.length, 9))
    const front = cat(head(4, 1), b3(before))
    const trailer = gcm(hmac(structure, 'holdfast/1 trailer', b3(before)), front, cat(u64(held.length), u64(footer.length)))
    const pack = put(`packs/1a/${name}`, cat(before, front, trailer))
    const at = (i: number): number => segments.slice(0, i).reduce((sum, s) => sum + s.sealed.length, 0)
    const rows = segments.map((s, i) => cat(u32(0), u64(at(i)), u32(s.sealed.length), u32(s.plain), s.kind, s.codec, u16(0), u32(1), s.id))
    const places = segments.flatMap((s, i) => {
      let from = 0
      return s.blobs.map((blob) => cat(blob.id, u32(i), u32((from += blob.data.length) - blob.data.length), u32(blob.data.length)))
    })
    places.sort((a, b) => a.compare(b))
    const packs = cat(varint(1), session, random, u64(size))
    const index = cat(session, random, varint(0), varint(1), entry, packs, u32(rows.length), ...rows, u32(places.length), ...places)
    put(`index/${name}`, cat(head(5, 1), box(5, index, seed)))
    const about = JSON.stringify({
      v: 1,
      host: 'h',
      source: 'data',
      paths: ['L2Q='],
      tags: ['t'],
      program: 'p',
      summary: {},
      problems: [],
      root: null,
    })
    const hidden = segment(4, Buffer.from(about.padEnd(pad(about.length))), 1)
    const record = derive('record')
    const tokens = [b3k(record, cat('series', 0, writerId, 'data')), b3k(record, cat('tag', 0, 't'))] as const
    const counts = cat(rootNode, u64(10), u64(1700000000000), ...counted.map(u64))
    const lists = cat(varint(1), tokens[1], varint(0), varint(1), session, random)
    const part = cat(hidden.id, 1, u32(hidden.sealed.length), u32(pad(about.length)), b3(hidden.sealed))
    const body = cat(random, writerId, entry, tokens[0], u64(1), Buffer.alloc(32), counts, lists, part)
    const sealed = box(6, body, seed)
    put(`snapshots/${name}`, cat(head(6, 1), u32(sealed.length), sealed, hidden.sealed))
    return { pack, index: `index/${name}`, snapshot: `snapshots/${name}` }
  }
}

// Reads a snapshot out of a copied Holdfast repository (format 1). From agent/repository/FORMAT.md alone, sharing no code with Holdfast.
// Needs Node 24.7 or newer and, to restore in place, GNU tar: a snapshot becomes a tar archive (pax), which tar extracts.
//   node holdfast-reader.mjs REPOSITORY SNAPSHOT|latest TARGET [--keys DIR]     restores into TARGET, which must be empty or missing
//   node holdfast-reader.mjs REPOSITORY SNAPSHOT|latest [--keys DIR] > a.tar    only writes the archive
//   node holdfast-reader.mjs REPOSITORY --list [--keys DIR]                     lists the snapshots
// SNAPSHOT is an id or its beginning. --keys: a folder of key objects outside of the repository. The secret comes from
// HOLDFAST_RECOVERY_CODE or HOLDFAST_PASSWORD. Only what was verified is written. Index files are not read: packs say what they hold.
// Exit codes: 0 done, 1 failed, 2 usage, 3 something could not be restored (named by tar), 4 there is damage (named; all else is restored),
// 12 wrong recovery code or passphrase.
import { spawn } from 'node:child_process'
import * as crypto from 'node:crypto'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import { zstdDecompressSync } from 'node:zlib'

const MIB = 2 ** 20
const [KEY, SESSION, PACK, SNAPSHOT, ROSTER] = [2, 3, 4, 6, 7] // types of objects
const [CHUNK, PRIVATE, REFERENCES, ABOUT] = [1, 2, 3, 4] // kinds of segments
function stop(exitCode, message) {
  throw Object.assign(new Error(message), { exitCode })
}
const must = (holds, message) => holds || stop(undefined, message)

// ---- Bytes and cryptography (sections 1 and 3) ----
const bytesOf = (part) => (typeof part === 'number' ? Buffer.of(part) : typeof part === 'string' ? Buffer.from(part) : part)
const cat = (...parts) => Buffer.concat(parts.map(bytesOf))
const hex = (bytes) => bytes.toString('hex')
const u32 = (n) => Buffer.from(Uint32Array.of(n).buffer)
const sha256 = (...parts) => crypto.hash('sha256', cat(...parts), 'buffer')
const hmacOf = (key) => crypto.createHmac('sha256', key)
const hmac = (key, ...parts) =>
  hmacOf(key)
    .update(cat(...parts))
    .digest()
const hkdf = (secret, salt, info) => Buffer.from(crypto.hkdfSync('sha256', secret, salt, info, 32))
const der = (type, prefix, bytes) => ({ key: cat(Buffer.from(prefix, 'hex'), bytes), format: 'der', type })
const privateKey = (prefix, seed) => crypto.createPrivateKey(der('pkcs8', prefix, seed))
const publicKey = (prefix, bytes) => crypto.createPublicKey(der('spki', prefix, bytes))
const publicBytes = (key, length) => crypto.createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-length)
/** Opens AES-256-GCM; the 16-byte tag follows the ciphertext. */
function openGcm(key, aad, sealed, nonce = Buffer.alloc(12)) {
  const cipher = crypto.createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 }).setAAD(aad).setAuthTag(sealed.subarray(-16))
  return Buffer.concat([cipher.update(sealed.subarray(0, -16)), cipher.final()])
}
/** The key pair that an X-Wing seed stands for. */
export function xwingKeys(seed) {
  const wide = crypto.createHash('shake256', { outputLength: 96 }).update(seed).digest()
  const mlkem = privateKey('3054020100300b060960864801650304040204428040', wide.subarray(0, 64))
  const x25519 = privateKey('302e020100300506032b656e04220420', wide.subarray(64))
  return { mlkem, x25519, public: cat(publicBytes(mlkem, 1184), publicBytes(x25519, 32)) }
}
export function xwingDecapsulate(keys, ciphertext) {
  const ephemeral = ciphertext.subarray(1088, 1120)
  const shared = crypto.diffieHellman({ privateKey: keys.x25519, publicKey: publicKey('302a300506032b656e032100', ephemeral) })
  const secret = crypto.decapsulate(keys.mlkem, ciphertext.subarray(0, 1088))
  return crypto.hash('sha3-256', cat(secret, shared, ephemeral, keys.public.subarray(1184), '\\.//^\\'), 'buffer')
}
/** Padmé. */
export function pad(n) {
  const e = Math.floor(Math.log2(n))
  const unit = n < 2 ? 1 : 2 ** (e - Math.floor(Math.log2(e)) - 1)
  return Math.ceil(n / unit) * unit
}
/** The 20 bytes of a recovery code, or null when it is not one (alphabet, length or check digits). */
export function recoveryCode(text) {
  const digits = text.toLowerCase().replace(/[-\s]/g, '').replace(/[il]/g, '1').replace(/o/g, '0')
  if (!/^[0-9a-hjkmnp-tv-z]{36}$/.test(digits)) return null
  const valueOf = (digit) => BigInt('0123456789abcdefghjkmnpqrstvwxyz'.indexOf(digit))
  const number = Array.from(digits).reduce((sum, digit) => sum * 32n + valueOf(digit), 0n)
  const all = number.toString(16).padStart(45, '0') // 40 digits of the code, and 5 that check it
  const code = Buffer.from(all.slice(0, 40), 'hex')
  return hex(sha256('holdfast/1 recovery code', code)).startsWith(all.slice(40)) ? code : null
}

// ---- BLAKE3-256, plain and keyed, as its paper describes it ----
const IV = Int32Array.of(0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19)
const PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
const [CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED] = [1, 2, 4, 8, 16]
const half = ([a, b, c, d], word, r1, r2) => `
  v${a} = (v${a} + v${b} + m${word}) | 0; v${d} ^= v${a}; v${d} = (v${d} << ${32 - r1}) | (v${d} >>> ${r1});
  v${c} = (v${c} + v${d}) | 0; v${b} ^= v${c}; v${b} = (v${b} << ${32 - r2}) | (v${b} >>> ${r2});`
/** Writes the 7 rounds out as one function, which is five times as fast as a loop over them. */
function writeRounds() {
  let order = PERMUTATION.map((_, i) => i)
  const state = (i) => (i < 8 ? `cv[${i}]` : i < 12 ? IV[i - 8] : ['counter', 0, 'length', 'flags'][i - 12])
  const lines = order.map((i) => `let m${i} = m[at + ${i}], v${i} = ${state(i)};`)
  for (let round = 0; round < 7; round++, order = PERMUTATION.map((i) => order[i])) {
    for (let i = 0; i < 8; i++) {
      const quarter = [0, 1, 2, 3].map((row) => row * 4 + ((i + (i < 4 ? 0 : row)) % 4)) // four columns, then four diagonals
      lines.push(half(quarter, order[2 * i], 16, 12), half(quarter, order[2 * i + 1], 8, 7))
    }
  }
  for (let i = 0; i < 8; i++) lines.push(`cv[${i}] = v${i} ^ v${i + 8};`)
  return new Function('cv', 'm', 'at', 'counter', 'length', 'flags', lines.join('\n'))
}
const compress = writeRounds()
/** BLAKE3-256 of the data, keyed when a 32-byte key is given. */
export function blake3(data, key) {
  const words = new Int32Array(Math.max(1, Math.ceil(data.length / 64)) * 16)
  Buffer.from(words.buffer).set(data)
  const start = key ? Int32Array.from({ length: 8 }, (_, i) => key.readInt32LE(i * 4)) : IV
  const tree = (first, count, flags) => {
    const cv = start.slice()
    if (count > 1) {
      const left = 2 ** (31 - Math.clz32(count - 1))
      const both = Int32Array.of(...tree(first, left, 0), ...tree(first + left, count - left, 0))
      compress(cv, both, 0, 0, 64, (key ? KEYED : 0) | PARENT | flags)
      return cv
    }
    const end = Math.min(data.length, first * 1024 + 1024)
    for (let at = first * 1024; at === first * 1024 || at < end; at += 64) {
      const ends = (at % 1024 === 0 ? CHUNK_START : 0) | (at + 64 >= end ? CHUNK_END | flags : 0)
      compress(cv, words, at / 4, first, Math.min(64, end - at), (key ? KEYED : 0) | ends)
    }
    return cv
  }
  return Buffer.from(tree(0, Math.max(1, Math.ceil(data.length / 1024)), ROOT).buffer)
}

function bounded(big, limit = Number.MAX_SAFE_INTEGER) {
  must(big <= limit, 'it holds a number over its limit')
  return Number(big)
}
/** Reads fields one after the other; everything is bounded by what remains. */
export class Cursor {
  at = 0
  constructor(buffer) {
    this.buffer = buffer
  }
  take(n) {
    must(n <= this.buffer.length - this.at, 'it ends too early')
    return this.buffer.subarray(this.at, (this.at += n))
  }
  varint64() {
    for (let value = 0n, shift = 0n; ; shift += 7n) {
      const byte = this.u8()
      value |= BigInt(byte & 127) << shift
      must((shift < 63n || byte <= 1) && (byte !== 0 || shift === 0n), 'it holds a number over 64 bits, or not in its shortest form')
      if (byte < 128) return value
    }
  }
  u8 = () => this.take(1)[0]
  u16 = () => this.take(2).readUInt16LE()
  u32 = () => this.take(4).readUInt32LE()
  u64 = (limit) => bounded(this.take(8).readBigUInt64LE(), limit)
  varint = (limit) => bounded(this.varint64(), limit)
  svarint64 = () => ((n) => (n >> 1n) ^ -(n & 1n))(this.varint64())
  bytes = (limit) => this.take(this.varint(limit))
  list = (limit, read) => Array.from({ length: this.varint(limit) }, read)
  /** Fields in their order: 'name:type', or 'name:length' for so many bytes. */
  fields(layout) {
    const read = (type) => (type in this ? this[type]() : this.take(Number(type)))
    return Object.fromEntries(layout.split(' ').map((field) => [field.split(':')[0], read(field.split(':')[1])]))
  }
  end = () => must(this.at === this.buffer.length, 'it has bytes left over')
}

// ---- The repository at hand: one process reads one ----
const PAIR = /^[0-9a-f]{32}-[0-9a-f]{32}$/
let [directory, root, domain, treeKey, idKey, rootWriter] = ['.']
const [told, kept, agents, places, plains] = [new Set(), new Map(), new Map(), new Map(), new Map()]
const show = (bytes) =>
  bytes.toString().replace(/[^\x20-\x7e\u00a1-\u1fff\u2c00-\ud7ff\uf900-\ufffc]/g, (ch) => `\\u{${ch.codePointAt(0).toString(16)}}`)
/** Does a thing. Whatever goes wrong with it is told as damage, once, and costs no more than that thing. */
function attempt(what, act) {
  try {
    return act(what)
  } catch (error) {
    if (error.exitCode) throw error
    const text = `damage: ${show(what)}: ${error.message}`
    if (!told.has(text)) console.error(text)
    told.add(text)
  }
}
/** Makes a thing when it is first asked for. */
const keep = (name, make) => kept.get(name) ?? kept.set(name, make()).get(name)
function namesIn(folder, pattern) {
  const path = resolve(directory, folder)
  const names = fs.existsSync(path) ? fs.readdirSync(path).filter((name) => pattern.test(name)) : []
  return names.sort().map((name) => `${folder}/${name}`)
}
/** A file, or `length` bytes of it from `at`, which counts from the end when it is negative. */
function readFile(name, limit = MIB, at = 0, length = null) {
  const fd = fs.openSync(resolve(directory, name))
  try {
    const { size } = fs.fstatSync(fd)
    must(size <= limit, 'it is over the limit of its size')
    const bytes = Buffer.alloc(length ?? size)
    must(fs.readSync(fd, bytes, 0, bytes.length, at < 0 ? size + at : at) === bytes.length, 'it is shorter than it should be')
    return bytes
  } finally {
    fs.closeSync(fd)
  }
}
const derive = (label, epoch = 0) => keep(`${label} ${epoch}`, () => hkdf(root, domain, cat(`holdfast/1 ${label}`, u32(epoch))))
const signer = (label) => publicBytes(privateKey('302e020100300506032b657004220420', derive(label)), 32)
/** Checks a header and gives its epoch. */
function epochOf(head, type) {
  must(head.toString('latin1', 0, 8) === 'HOLDFAST', 'it is not an object of Holdfast')
  if (head[8] > 1) stop(1, 'the repository holds what a newer Holdfast made')
  must(head[8] === 1 && head[9] === type && head.readUInt16LE(10) === 0, 'it has another type, or reserved bytes in use')
  must(!domain || domain.equals(head.subarray(16, 32)), 'it belongs to another domain')
  return head.readUInt32LE(12)
}
/** Tries the secret on a key object; with the right one the root is known. */
function openKey(name, code, password) {
  const c = new Cursor(readFile(name))
  must(epochOf(c.buffer, KEY) === 0, 'it has an epoch')
  const { head, kdf, memory, passes, lanes, nonce, iv } = c.fields('head:32 kdf:u8 memory:u32 passes:u32 lanes:u32 nonce:16 iv:12')
  const within = (n, least, most) => n >= least && n <= most
  const isBounded = within(memory, 8192, MIB) && within(passes, 1, 16) && within(lanes, 1, 16)
  must(kdf === 2 ? memory + passes + lanes === 0 : kdf === 1 && isBounded, 'it derives its key outside of the limits')
  if (kdf === 2 ? !code : !password) return
  const options = () => ({ message: Buffer.from(password.normalize('NFC')), nonce, memory, passes, parallelism: lanes, tagLength: 32 })
  const key = kdf === 2 ? hkdf(code, nonce, 'holdfast/1 recovery code') : crypto.argon2Sync('argon2id', options())
  try {
    root = openGcm(key, c.buffer.subarray(0, c.at), c.buffer.subarray(c.at), iv).subarray(0, 32)
    domain = head.subarray(16)
  } catch {
    root = undefined // the key object of another secret
  }
}
/** Opens a header and its box (section 4): a cursor over the body, and who signed it. */
function openBox(type, bytes) {
  const [head, id] = [bytes.subarray(0, 32), bytes.subarray(32, 64)]
  const key = derive('structure', epochOf(head, type))
  const plain = openGcm(hmac(key, 'holdfast/1 seal', type, id), cat(head, id), bytes.subarray(64))
  must(id.equals(hmac(hmac(key, 'holdfast/1 content id'), type, plain)), 'it has another content id than it says')
  const c = new Cursor(plain)
  const [body, signer, signature] = [c.take(c.u64()), c.take(32), c.take(64)]
  must(plain.length === pad(c.at) && plain.subarray(c.at).every((byte) => byte === 0), 'it is padded wrongly')
  const signed = cat('holdfast/1 signed\n', type, domain, sha256(body, signer))
  must(crypto.verify(null, signed, publicKey('302a300506032b6570032100', signer), signature), 'it has a wrong signature')
  return Object.assign(new Cursor(body), { signer })
}
/** Refuses who may not write as this writer, or not in this session (sections 4 and 9). */
function checkWriter({ signer }, writer, session) {
  const agent = signer.equals(rootWriter) ? { id: Buffer.alloc(16), state: 1 } : agents.get(hex(signer))
  must(agent?.id.equals(writer), 'it is signed by a writer that the roster does not list, or by another than it names')
  must(agent.state === 1 || keep(`session ${hex(session)}`, () => startOf(session)) < agent.since, 'it is signed by a revoked writer')
}
const SESSION_ENTRY = 'id:16 epoch:u32 sealed:1168 commitment:32'
function startOf(session) {
  const c = openBox(SESSION, readFile(`sessions/${hex(session)}`))
  const { id, started } = c.fields(`${SESSION_ENTRY} writer:16 started:u64`)
  must(id.equals(session), 'its session object has another id inside')
  return started
}
function readRoster(name) {
  const c = openBox(ROSTER, readFile(name))
  must(c.signer.equals(signer('sign')), 'it is not signed by the domain')
  const roster = c.fields('number:u32 made:u64')
  roster.agents = c.list(MIB, () => c.fields('id:16 key:32 fingerprint:20 state:u8 since:u64 label:bytes'))
  c.end()
  return roster
}
function openSession({ id, epoch, sealed, commitment }) {
  const keys = keep(`keys ${epoch}`, () => xwingKeys(derive('content', epoch)))
  const wrap = hkdf(xwingDecapsulate(keys, sealed.subarray(0, 1120)), '', 'holdfast/1 session')
  const key = openGcm(wrap, cat(domain, id), sealed.subarray(1120))
  must(commitment.equals(hmac(key, 'holdfast/1 commitment', id)), 'a session key is not the one committed to')
  return key
}

// ---- Packs, segments and blobs (section 6) ----
/** Notes where the blobs are that a pack's footer lists. */
function readPack(path) {
  const trailer = readFile(path, 64 * MIB, -96, 96)
  const key = hmac(derive('structure', epochOf(trailer, PACK)), 'holdfast/1 trailer', trailer.subarray(32, 64))
  const { start, length } = new Cursor(openGcm(key, trailer.subarray(0, 64), trailer.subarray(64))).fields('start:u64 length:u64')
  must(start + length <= 64 * MIB, 'it has its footer outside of it')
  const c = openBox(PACK, readFile(path, 64 * MIB, start, length))
  const { session, id, writer } = c.fields('session:16 id:16 writer:16')
  must(path.endsWith(`/${hex(id).slice(0, 2)}/${hex(session)}-${hex(id)}`), 'it has another name inside')
  checkWriter(c, writer, session)
  const sessions = c.list(65536, () => c.fields(SESSION_ENTRY))
  let at = 0
  c.list(MIB, () => {
    const s = c.fields('kind:u8 codec:u8 session:varint epoch:u32 sealed:varint plain:varint id:32 hash:32')
    must(s.kind >= 1 && s.kind <= 3 && s.codec <= 1 && s.plain <= 16 * MIB, 'it lists a segment of another kind, codec or size')
    must(s.kind === REFERENCES ? s.session === 0 : sessions[s.session]?.epoch === s.epoch, 'it lists a segment of no session')
    Object.assign(s, { path, at, entry: sessions[s.session] })
    at += s.sealed
    let from = 0
    c.list(65536, () => {
      const [id, length] = [`${s.kind} ${hex(c.take(32))}`, c.varint()]
      places.set(id, { s, from, length, next: places.get(id) })
      from += length
    })
    must(from === s.plain && (s.codec === 1 || s.sealed === s.plain + 16), 'it lists blobs that are not the whole of their segment')
  })
  must(at === start, 'it lists segments that do not reach its footer')
  c.end()
}
/** Opens a sealed segment. Its key depends on its id, so its id is not computed again; the blobs in it are checked one by one. */
function openSegment(s, sealed) {
  const base = s.kind === REFERENCES ? derive('structure', s.epoch) : keep(hex(s.entry.sealed), () => openSession(s.entry))
  const payload = openGcm(hmac(base, 'holdfast/1 segment', s.id), cat(1, domain, s.kind, s.codec, u32(s.epoch), s.id), sealed)
  if (s.codec === 0) return payload
  const { buffer, engine } = zstdDecompressSync(payload, { info: true, maxOutputLength: Math.max(1, s.plain) })
  must(buffer.length === s.plain && engine.bytesWritten === payload.length, 'a segment has another length than is said')
  return buffer
}
/** The plaintext of a segment in a pack; the latest ones are kept. */
function plainOf(s) {
  const plain = plains.get(s) ?? openSegment(s, readFile(s.path, 64 * MIB, s.at, s.sealed))
  plains.delete(s)
  plains.set(s, plain)
  if (plains.size > 48) plains.delete(plains.keys().next().value)
  return plain
}
/** A blob: from the first of its places where its hash is the one expected. */
function blob(kind, id, hash, expected = id) {
  for (let place = places.get(`${kind} ${hex(id)}`); place; place = place.next) {
    const { s, from, length } = place
    const bytes = attempt(`${s.path} at ${s.at}`, () => plainOf(s).subarray(from, from + length))
    if (bytes && length > 0 && hash(bytes).equals(expected)) return bytes
  }
  throw new Error(`blob ${hex(id)} is in no pack, or damaged wherever it is`)
}
const chunk = (id) => blob(CHUNK, id, (bytes) => blake3(bytes, idKey))

// ---- Trees and snapshots (section 8) ----
/** A tree node: a cursor over its private part, with its type and its references. */
function openNode(id) {
  const r = new Cursor(blob(REFERENCES, id, (bytes) => blake3(cat('node', bytes), treeKey)))
  const { version, type, hash } = r.fields('version:u8 type:u8 hash:32')
  const references = r.list(65536, () => r.fields('what:u8 id:32'))
  r.end()
  const c = new Cursor(blob(PRIVATE, id, (bytes) => blake3(cat('private', bytes), treeKey), hash))
  must(version === 1 && c.buffer.length <= 8 * MIB, 'a tree node is of another version, or too large')
  return Object.assign(c, { type, count: references.length, references: references.values() })
}
/** The next reference of a node, which must be a chunk (0) or a node (1). */
function refer(node, what) {
  const { value } = node.references.next()
  must(value?.what === what, 'a tree node has another reference than its place calls for')
  return value.id
}
/** The directory (type 1) or chunk-list (type 3) nodes below an id, through any pages. */
function* leaves(id, type, level = 0) {
  const node = openNode(id)
  must((node.type === type || node.type === type + 1) && level <= 8, 'a tree node is of another type than its place calls for')
  if (node.type === type) yield node
  for (let n = node.type === type ? 0 : node.varint(65536); n > 0; n--) {
    node.fields(type === 1 ? 'first:bytes below:varint' : 'below:varint')
    yield* leaves(refer(node, 1), type, level + 1)
  }
  must(node.references.next().done && node.end(), 'a tree node has references left over')
}
/** The entries of a directory, in strictly ascending order: no name can stand for two things. */
function* entriesOf(id) {
  let last = Buffer.alloc(0)
  for (const node of leaves(id, 1)) {
    for (let n = node.varint(65536); n > 0; n--) {
      const entry = readEntry(node)
      must(last.compare(entry.name) < 0, 'a directory is not sorted')
      last = entry.name
      yield entry
    }
  }
}
function* partsOf(e) {
  if (e.inline) yield e.inline
  for (const id of e.chunks ?? []) yield chunk(id)
  for (const node of e.list ? leaves(e.list, 3) : []) {
    node.varint()
    for (let n = node.count; n > 0; n--) yield chunk(refer(node, 0))
  }
}
/** An entry of a directory; where its node has no references, the entry of the root. */
function readEntry(c) {
  const e = c.fields('name:bytes kind:u8 flags:u16 mode:u16 uid:varint gid:varint seconds:svarint64 nanoseconds:varint')
  const name = e.name.toString('latin1')
  must(/^[^/\0]{1,255}$/.test(name) && name !== '.' && name !== '..', 'a directory has an entry whose name is no name')
  const allowed = [0, 63, 98, 35, 35, 35, 35][e.kind]
  const isKnown = allowed && (e.flags & ~allowed) === 0 && (e.flags & 24) !== 24
  must(isKnown && e.mode <= 0o7777 && e.nanoseconds < 1e9, 'an entry is of an unknown kind, flag, mode or time')
  let end = 0
  if (e.kind === 1) e.size = c.varint()
  if (e.kind === 2 && c.references) e.child = refer(c, 1)
  if (e.kind === 3) e.target = c.bytes(4095)
  if (e.kind > 4) e.device = [c.varint(2 ** 32 - 1), c.varint(2 ** 32 - 1)]
  if (e.flags & 1) e.linked = `${c.varint64()} ${c.varint64()}`
  if (e.flags & 2) e.attributes = c.list(1024, () => c.fields('name:bytes value:bytes'))
  if (e.flags & 4) e.extents = c.list(4096, () => ({ from: (end += c.varint()), to: (end += c.varint()) }))
  e.extents ??= [{ from: 0, to: e.size ?? 0 }]
  must(end <= (e.size ?? 0), 'a file has content beyond its size')
  if (e.flags & 8) e.inline = c.bytes(256)
  else if (e.flags & 16) e.list = refer(c, 1)
  else if (e.kind === 1) e.chunks = c.list(65536, () => refer(c, 0))
  return e
}
function readSnapshot(path) {
  const outer = new Cursor(readFile(path, 64 * MIB))
  const head = outer.take(32)
  const c = openBox(SNAPSHOT, cat(head, outer.take(outer.u32())))
  const { id, writer } = c.fields('id:16 writer:16')
  const entry = c.fields(SESSION_ENTRY)
  must(path.endsWith(`/${hex(entry.id)}-${hex(id)}`), 'it has another name inside')
  checkWriter(c, writer, entry.id)
  const layout = 'series:32 sequence:u64 previous:32 tree:32 started:u64 ended:u64 files:u64 directories:u64 bytes:u64'
  const s = c.fields(layout)
  for (let i = 0; i < 3; i++) c.list(MIB, () => c.take(32)) // tags, collection lists and index files, which are not needed here
  const part = { kind: ABOUT, entry, epoch: entry.epoch, ...c.fields('id:32 codec:u8 sealed:u32 plain:u32 hash:32') }
  const sealed = outer.take(part.sealed)
  c.end()
  outer.end()
  must(part.plain <= 16 * MIB && part.codec <= 1 && part.hash.equals(blake3(sealed)), 'its private part is not the one that was signed')
  const about = JSON.parse(openSegment(part, sealed).toString())
  must(about.v === 1, 'its private part is of another version')
  return { ...s, id: hex(id), about }
}

// ---- The archive (tar, pax) ----
const sizeOf = (extents) => extents.reduce((sum, { from, to }) => sum + to - from, 0)
const filling = (length) => Buffer.alloc(-length & 511) // up to a whole block
/** One pax record; its length counts itself. */
function record([key, value]) {
  const rest = cat(' ', key, '=', Buffer.isBuffer(value) ? value : String(value), '\n')
  const length = [1, 2, 3, 4, 5, 6].map((digits) => rest.length + digits).find((n) => n === rest.length + String(n).length)
  return cat(String(length), rest)
}
function tarHeader(type, size, mode = 0, [major, minor] = [0, 0]) {
  const block = Buffer.alloc(512)
  const octal = (at, width, n) => block.write(n.toString(8).padStart(width, '0'), at)
  for (const [at, n] of Object.entries({ 100: mode, 108: 0, 116: 0, 329: major, 337: minor })) octal(Number(at), 7, n)
  octal(124, 11, size % 8 ** 11) // the pax records have a larger one
  block.write('entry') // the pax records have the name, too
  block.write(`${' '.repeat(8)}${type}`, 148)
  block.write('ustar\x0000', 257)
  const sum = block.reduce((sum, byte) => sum + byte)
  octal(148, 6, sum)
  return block
}
/** The content of a file, verified as a whole. What is over 64 MiB is not held but read again. */
function contentOf(e) {
  const isLarge = e.size > 64 * MIB
  const parts = isLarge ? partsOf(e) : [...partsOf(e)]
  let length = 0
  for (const bytes of parts) length += bytes.length
  must(length === sizeOf(e.extents), 'its content has another length than its size says')
  return isLarge ? partsOf(e) : parts
}
/** The archive's bytes for an entry, or for a hard link to a path before it. */
function* member(path, e, content, link) {
  const time = e.seconds * 1000000000n + BigInt(e.nanoseconds)
  const digits = String(time < 0n ? -time : time).padStart(10, '0')
  const mtime = `${time < 0n ? '-' : ''}${digits.slice(0, -9)}.${digits.slice(-9)}`
  const records = Object.entries({ hdrcharset: 'BINARY', path, mtime, uid: e.uid, gid: e.gid })
  if (link ?? e.target) records.push(['linkpath', link ?? e.target])
  for (const { name, value } of e.attributes ?? []) {
    const key = name.toString('latin1').replaceAll('%', '%25').replaceAll('=', '%3D')
    records.push([Buffer.from(`SCHILY.xattr.${key}`, 'latin1'), value])
  }
  let [map, extents] = ['', link ? [] : e.extents]
  if (e.flags & 4 && !link) {
    extents = extents.map(({ from, to }, i) => ({ from, to: i + 1 < extents.length ? to + ((from - to) & 511) : to }))
    map = [extents.length + 1, ...extents.flatMap(({ from, to }) => [from, to - from]), e.size, 0, ''].join('\n')
  }
  map = cat(map, filling(map.length))
  const size = map.length + sizeOf(extents)
  if (size >= 8 ** 11) records.push(['size', size])
  if (map.length > 0) records.push(['GNU.sparse.major', 1], ['GNU.sparse.minor', 0], ['GNU.sparse.realsize', e.size])
  const pax = cat(...records.map(record))
  yield cat(tarHeader('x', pax.length), pax, filling(pax.length), tarHeader(link ? '1' : 'x052634'[e.kind], size, e.mode, e.device), map)
  if (size > 0) yield* filled(content, e.extents)
}
/** Content with each extent filled up to whole blocks: GNU tar begins the next one in a block of its own. */
function* filled(content, extents) {
  const source = content[Symbol.iterator]()
  let bytes = Buffer.alloc(0)
  for (const { from, to } of extents) {
    for (let at = from; at < to;) {
      while (bytes.length === 0) bytes = source.next().value
      const piece = bytes.subarray(0, to - at)
      yield piece
      bytes = bytes.subarray(piece.length)
      at += piece.length
    }
    yield filling(to - from)
  }
}
/** The archive of a snapshot. Its entries are bounded by what the snapshot says. */
function* archive({ tree, files, directories, bytes, about }, keepsTop) {
  const first = new Map() // of every linked file: where it is, and what
  const top = about.root ? readEntry(new Cursor(Buffer.from(about.root, 'base64'))) : null
  if (top && !(keepsTop && top.flags & 64)) yield* member('.', top, [])
  const left = { files, directories: directories - 1, bytes }
  for (const open = [[Buffer.from('.'), entriesOf(tree)]]; open.length > 0;) {
    const [directory, entries] = open.at(-1)
    const entry = attempt(directory, () => entries.next().value)
    if (!entry) open.pop()
    else {
      const path = cat(directory, '/', entry.name)
      left.files -= entry.kind === 1
      left.directories -= entry.kind === 2
      left.bytes -= entry.size ?? 0
      if (Math.min(...Object.values(left)) < 0 || open.length > 4097) stop(4, 'the tree has more in it than its snapshot says')
      const known = first.get(entry.linked)
      const content = attempt(path, () => {
        must(!known || (known.entry.kind === entry.kind && known.entry.size === entry.size), 'it is a hard link of another thing')
        return known ? [] : contentOf(entry)
      })
      if (content) yield* member(path, entry, content, known?.path)
      if (content && entry.linked && !known) first.set(entry.linked, { path, entry })
      if (entry.kind === 2) open.push([path, entriesOf(entry.child)])
    }
  }
  yield Buffer.alloc(1024)
}
/** Has GNU tar extract an archive: true when it had nothing to say. Not all that it cannot restore makes its status an error. */
async function extract(parts, target) {
  const flags = ['-xp', '--same-owner', '--numeric-owner', '--xattrs', '--xattrs-include=*']
  const quiet = ['--warning=no-timestamp', '--warning=no-unknown-keyword']
  const env = { PATH: process.env.PATH, LC_ALL: 'C' }
  const tar = spawn('tar', [...flags, ...quiet, '-C', target], { env, stdio: ['pipe', 'ignore', 'pipe'] })
  let isSilent = true
  tar.stderr.on('data', (text) => {
    isSilent = false
    process.stderr.write(text)
  })
  const [[status]] = await Promise.all([once(tar, 'close'), pipeline(Readable.from(parts), tar.stdin)])
  return isSilent && status === 0
}

// ---- The command ----
const USAGE = 'usage: node holdfast-reader.mjs REPOSITORY SNAPSHOT|latest [TARGET] [--keys DIR], or REPOSITORY --list [--keys DIR]'
/** Finds the domain's keys and agents. */
function unlock(folders, code, password) {
  const keys = folders.flatMap((folder) => namesIn(folder, /^[0-9a-f]{32}$/))
  if (keys.length === 0) stop(1, `there is no key object in ${folders.join(' or ')}; name the folder that holds it with --keys`)
  for (const name of keys) if (!root) attempt(name, () => openKey(name, code, password))
  if (!root) stop(told.size > 0 ? 4 : 12, 'no key object opens with this recovery code or passphrase')
  ;[treeKey, idKey, rootWriter] = [derive('tree id'), derive('id'), signer('writer')]
  const rosters = namesIn('rosters', PAIR).map((name) => attempt(name, readRoster))
  const [roster] = rosters.filter(Boolean).sort((a, b) => b.number - a.number || b.made - a.made)
  for (const agent of roster?.agents ?? []) agents.set(hex(agent.key), agent)
}
async function main() {
  const { values, positionals } = parseArgs({ options: { list: { type: 'boolean' }, keys: { type: 'string' } }, allowPositionals: true })
  const [repository, wanted, target] = positionals
  const { HOLDFAST_RECOVERY_CODE: text, HOLDFAST_PASSWORD: password } = process.env
  if (values.list ? positionals.length !== 1 : !wanted || positionals.length > 3) stop(2, USAGE)
  if (!text && !password) stop(2, 'set HOLDFAST_RECOVERY_CODE or HOLDFAST_PASSWORD')
  if (!values.list && !target && process.stdout.isTTY) stop(2, 'name a target, or send the archive to a file')
  const code = text ? recoveryCode(text) : null
  if (!code && !password) stop(12, 'this is not a recovery code: 36 letters and digits, of which the last four check the others')
  directory = repository
  unlock(values.keys ? ['keys', resolve(values.keys)] : ['keys'], code, password)
  const names = namesIn('snapshots', PAIR).filter((name) => values.list || wanted === 'latest' || name.slice(-32).startsWith(wanted))
  if (wanted !== 'latest' && !values.list && names.length > 1) stop(1, `${show(wanted)} begins the ids of ${names.length} snapshots`)
  const snapshots = names.map((name) => attempt(name, readSnapshot)).filter(Boolean)
  snapshots.sort((a, b) => a.started - b.started || (a.id < b.id ? -1 : 1))
  for (const { id, started, about } of values.list ? snapshots : []) {
    const paths = about.paths.map((path) => show(Buffer.from(path, 'base64')))
    console.log([id, new Date(started).toISOString(), show(about.host), show(about.source), ...paths].join('  '))
  }
  if (values.list) return told.size > 0 ? 4 : 0
  const snapshot = snapshots.at(-1) ?? stop(told.size > 0 ? 4 : 1, `there is no such snapshot: ${show(wanted)}`)
  for (const folder of namesIn('packs', /^[0-9a-f]{2}$/)) for (const path of namesIn(folder, PAIR)) attempt(path, readPack)
  for (const { path, code } of snapshot.about.problems)
    console.error(`note: the backup had a problem: ${show(Buffer.from(path, 'base64'))}: ${show(code)}`)
  const isThere = target && fs.existsSync(target)
  if (isThere && fs.readdirSync(target).length > 0) stop(1, `${target} is not empty`)
  if (target) fs.mkdirSync(target, { recursive: true, mode: 0o700 })
  const parts = archive(snapshot, isThere)
  const isWhole = target ? await extract(parts, target) : await pipeline(Readable.from(parts), process.stdout).then(() => true)
  return told.size > 0 ? 4 : isWhole ? 0 : 3
}
if (import.meta.main) {
  try {
    process.exitCode = await main()
  } catch (error) {
    console.error(`holdfast-reader: ${error.message}`)
    process.exitCode = error.exitCode ?? (String(error.code).startsWith('ERR_PARSE_ARGS') ? 2 : 1)
  }
}

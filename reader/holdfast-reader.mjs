// Reads a snapshot out of a copied Holdfast repository (format 1), by agent/repository/FORMAT.md alone: no code is shared with Holdfast.
//   node holdfast-reader.mjs REPOSITORY                   lists the snapshots; forgotten ones are marked, and never `latest`
//   node holdfast-reader.mjs REPOSITORY SNAPSHOT|latest | tar -xp --xattrs --xattrs-include='*' --numeric-owner -C TARGET
// Needs Node 24.7 or newer. SNAPSHOT is an id or its beginning. --keys DIR: a folder of key objects outside of the repository. The secret
// comes from HOLDFAST_RECOVERY_CODE or HOLDFAST_PASSWORD. Holes are written as zeros. Index files are not read: packs say what they hold.
// All is verified before it is written. A damaged directory is named and passed over; a damaged chunk of a file ends the archive, without
// its end marker. Exit codes (of the reader, not of tar): 0 done, 1 failed, 2 usage, 4 there is damage, 12 wrong code or passphrase.
import * as crypto from 'node:crypto'
import * as fs from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import { constants, zstdDecompressSync } from 'node:zlib'
const [MIB, ZSTD] = [2 ** 20, { [constants.ZSTD_d_windowLogMax]: 24 }]
const [KEY, SESSION, PACK, SNAPSHOT, ROSTER, FORGET, CHUNK, PRIVATE, REFERENCES, ABOUT] = [2, 3, 4, 6, 7, 11, 1, 2, 3, 4] // types, kinds
const refuse = (what, exitCode) => {
  throw Object.assign(new Error(what), { exitCode })
}
const must = (holds, what, exitCode) => holds || refuse(what, exitCode)
// ---- Bytes and cryptography (sections 1 and 3) ----
const cat = (...parts) => Buffer.concat(parts.map((part) => (typeof part === 'number' ? Buffer.of(part) : Buffer.from(part))))
const hex = (bytes) => bytes.toString('hex')
const u32 = (n) => Buffer.from(Uint32Array.of(n).buffer)
const digest = (hash, ...parts) => hash.update(cat(...parts)).digest()
const hmac = (key, ...parts) => digest(crypto.createHmac('sha256', key), ...parts)
const hkdf = (secret, salt, info) => Buffer.from(crypto.hkdfSync('sha256', secret, salt, info, 32))
const privateKey = (prefix, seed) => crypto.createPrivateKey({ key: cat(Buffer.from(prefix, 'hex'), seed), format: 'der', type: 'pkcs8' })
const publicKey = (prefix, bytes) => crypto.createPublicKey({ key: cat(Buffer.from(prefix, 'hex'), bytes), format: 'der', type: 'spki' })
const publicBytes = (key, length) => crypto.createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-length)
function openGcm(key, aad, sealed, nonce = Buffer.alloc(12)) {
  const cipher = crypto.createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 }).setAAD(aad).setAuthTag(sealed.subarray(-16))
  return cat(cipher.update(sealed.subarray(0, -16)), cipher.final())
}
export function xwingKeys(seed) {
  const wide = digest(crypto.createHash('shake256', { outputLength: 96 }), seed)
  const mlkem = privateKey('3054020100300b060960864801650304040204428040', wide.subarray(0, 64))
  const x25519 = privateKey('302e020100300506032b656e04220420', wide.subarray(64))
  return { mlkem, x25519, public: cat(publicBytes(mlkem, 1184), publicBytes(x25519, 32)) }
}
export function xwingDecapsulate(keys, ciphertext) {
  const ephemeral = ciphertext.subarray(1088, 1120)
  const shared = crypto.diffieHellman({ privateKey: keys.x25519, publicKey: publicKey('302a300506032b656e032100', ephemeral) })
  const secret = crypto.decapsulate(keys.mlkem, ciphertext.subarray(0, 1088))
  return digest(crypto.createHash('sha3-256'), secret, shared, ephemeral, keys.public.subarray(1184), '\\.//^\\')
}
const floorLog2 = (n) => 31 - Math.clz32(n)
export const pad = (n, unit = 2 ** (floorLog2(n) - floorLog2(floorLog2(n)) - 1)) => Math.ceil(n / unit) * unit
/** The 20 bytes of a recovery code, or undefined when it is not one (alphabet, length or check digits). */
export function recoveryCode(text) {
  const digits = text.toLowerCase().replaceAll(/[-\s]/g, '').replaceAll(/[il]/g, '1').replaceAll('o', '0')
  if (!/^[0-9a-hjkmnp-tv-z]{36}$/.test(digits)) return
  const bits = Array.from(digits, (digit) => '0123456789abcdefghjkmnpqrstvwxyz'.indexOf(digit).toString(2).padStart(5, '0'))
  const all = ('0'.repeat(45) + BigInt(`0b${bits.join('')}`).toString(16)).slice(-45) // 40 digits of the code, and 5 that check it
  const code = Buffer.from(all.slice(0, 40), 'hex')
  if (hex(digest(crypto.createHash('sha256'), 'holdfast/1 recovery code', code)).startsWith(all.slice(40))) return code
}
// ---- BLAKE3-256, plain and keyed, as its paper describes it, with rounds written out: ten times as fast as a loop ----
const IV = Int32Array.of(0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19)
const PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
const [CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED] = [1, 2, 4, 8, 16]
const half = ([a, b, c, d], word, r1, r2) => `
  v${a} = (v${a} + v${b} + m${word}) | 0; v${d} ^= v${a}; v${d} = (v${d} << ${32 - r1}) | (v${d} >>> ${r1});
  v${c} = (v${c} + v${d}) | 0; v${b} ^= v${c}; v${b} = (v${b} << ${32 - r2}) | (v${b} >>> ${r2});`
let order = PERMUTATION.map((_, i) => i)
const start = [...Array.from(IV, (_, i) => `cv[${i}]`), ...IV.subarray(0, 4), 'counter', 0, 'length', 'flags']
const lines = order.map((i) => `let m${i} = words[at + ${i}], v${i} = ${start[i]};`)
for (let i = 0; i < 56; i++) {
  const quarter = [0, 1, 2, 3].map((row) => row * 4 + ((i + (i & 4 ? row : 0)) & 3)) // four columns, then four diagonals
  lines.push(half(quarter, order[(2 * i) & 15], 16, 12), half(quarter, order[((2 * i) & 15) + 1], 8, 7))
  if (i % 8 === 7) order = PERMUTATION.map((word) => order[word])
}
for (let i = 0; i < 8; i++) lines.push(`cv[${i}] = v${i} ^ v${i + 8};`)
const compress = new Function('cv', 'words', 'at', 'counter', 'length', 'flags', lines.join('\n'))
export function blake3(data, key) {
  const words = new Int32Array(Math.max(1, Math.ceil(data.length / 64)) * 16)
  Buffer.from(words.buffer).set(data)
  const [start, keyed] = key ? [new Int32Array(Uint8Array.from(key).buffer), KEYED] : [IV, 0]
  const tree = (from, to, flags) => {
    const [cv, left] = [start.slice(), 2 ** floorLog2(Math.max(1, to - from - 1))]
    if (left >= 1024) compress(cv, [...tree(from, from + left, 0), ...tree(from + left, to, 0)], 0, 0, 64, keyed | PARENT | flags)
    for (let at = from; left < 1024 && (at === from || at < to); at += 64) {
      const ends = (at === from ? CHUNK_START : 0) | (at + 64 >= to ? CHUNK_END | flags : 0)
      compress(cv, words, at / 4, from / 1024, Math.min(64, to - at), keyed | ends)
    }
    return cv
  }
  return Buffer.from(tree(0, data.length, ROOT).buffer)
}
/** Reads values, bounded by what remains. In `fields` each is name:type:limit; a number as type is so many bytes. */
export function reader(buffer) {
  const take = (n) => buffer.subarray(r.at, must(n <= buffer.length - r.at, 'it ends too early') && (r.at += n))
  const bounded = (n, most = Number.MAX_SAFE_INTEGER) => must(n <= most, 'it holds a number over its limit') && Number(n)
  const r = {
    at: 0,
    buffer,
    u: (bits) => (bits < 64 ? take(bits / 8).readUIntLE(0, bits / 8) : bounded(take(8).readBigUInt64LE())),
    varint64(value = 0n, shift = 0n) {
      const byte = take(1)[0]
      must((shift < 63n || byte <= 1) && (byte !== 0 || shift === 0n), 'it holds a number over 64 bits, or not in its shortest form')
      const sum = value | (BigInt(byte & 127) << shift)
      return byte < 128 ? sum : r.varint64(sum, shift + 7n)
    },
    svarint64: () => ((n) => (n >> 1n) ^ -(n & 1n))(r.varint64()),
    varint: (most) => bounded(r.varint64(), most),
    bytes: (most) => take(r.varint(most)),
    session: () => r.fields('id:16 epoch:u:32 sealed:1168 commitment:32'),
    list: (most, read) => Array.from({ length: r.varint(most) }, read),
    get: (type, most) => (type in r ? r[type](most && Number(most)) : take(Number(type))),
    fields: (layout) => Object.fromEntries(layout.split(' ').map((field) => [field.split(':')[0], r.get(...field.split(':').slice(1))])),
    end: () => must(r.at === buffer.length, 'it has bytes left over'),
  }
  return r
}
// ---- The repository at hand: one process reads one (sections 2 to 5 and 9) ----
const [NAME, PACK_NAME, KEY_NAME] = [/^[0-9a-f]{32}-[0-9a-f]{32}$/, /^..\/[0-9a-f]{32}-[0-9a-f]{32}$/, /^[0-9a-f]{32}$/]
const { HOLDFAST_RECOVERY_CODE: text, HOLDFAST_PASSWORD: password } = process.env
const code = text && recoveryCode(text)
let directory, wanted, root, domain
const [told, undone, kept, agents, places] = [new Set(), new Set(), new Map(), new Map(), new Map()]
const show = (bytes) => bytes.toString().replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, (ch) => `\\u{${ch.codePointAt(0).toString(16)}}`)
/** Does a thing. Whatever goes wrong with it is told as damage, once, and costs no more than that thing. */
function attempt(what, act) {
  try {
    return act(what)
  } catch (error) {
    if (error.exitCode) throw error
    const text = `damage: ${show(what)}: ${error.message}`
    if (told.size < told.add(text).size) console.error(text)
  }
}
const keep = (name, make) => kept.get(name) ?? kept.set(name, make(kept.size > 64 && kept.delete(kept.keys().next().value))).get(name)
function readAll(folder, shape, read) {
  const names = fs.existsSync(folder) ? fs.readdirSync(folder, { recursive: shape === PACK_NAME }).filter((name) => shape.test(name)) : []
  return names.map((name) => attempt(`${folder}/${name}`, read)).filter(Boolean)
}
/** A file, or `length` bytes of it from `at`, which counts from the end when it is negative. */
function readFile(path, limit = MIB, at = 0, length = null) {
  const fd = fs.openSync(path)
  try {
    const { size } = fs.fstatSync(fd)
    const bytes = Buffer.alloc(must(Math.max(size, length) <= limit, 'it is over the limit of its size') && (length ?? size))
    return must(fs.readSync(fd, bytes, 0, bytes.length, at < 0 ? size + at : at) === bytes.length, 'it is too short') && bytes
  } finally {
    fs.closeSync(fd)
  }
}
const derive = (label, epoch = 0) => keep(`${label} ${epoch}`, () => hkdf(root, domain, cat(`holdfast/1 ${label}`, u32(epoch))))
const signerOf = (label) => publicBytes(privateKey('302e020100300506032b657004220420', derive(label)), 32)
function epochOf(head, type) {
  must(head.toString('latin1', 0, 8) === 'HOLDFAST', 'it is not an object of Holdfast')
  must(head[8] <= 1, 'the repository holds what a newer Holdfast made', 1)
  must(head[8] === 1 && head[9] === type && head.readUInt16LE(10) === 0, 'it has another type, or reserved bytes in use')
  return must(!domain || domain.equals(head.subarray(16, 32)), 'it belongs to another domain') && head.readUInt32LE(12)
}
function openKey(path) {
  const r = reader(readFile(path))
  const { head, kdf, memory, passes, lanes, nonce, iv } = r.fields('head:32 kdf:u:8 memory:u:32 passes:u:32 lanes:u:32 nonce:16 iv:12')
  const isBounded = memory >= 8192 && memory <= MIB && passes >= 1 && passes <= 16 && lanes >= 1 && lanes <= 16
  must(epochOf(head, KEY) === 0 && (kdf === 2 ? !(memory + passes + lanes) : kdf === 1 && isBounded), 'it has an epoch, or no lawful costs')
  if (root || !(kdf === 2 ? code : password)) return true
  const costs = { message: password?.normalize('NFC'), nonce, memory, passes, parallelism: lanes, tagLength: 32 }
  const key = kdf === 2 ? hkdf(code, nonce, 'holdfast/1 recovery code') : crypto.argon2Sync('argon2id', costs)
  try {
    ;[root, domain] = [openGcm(key, r.buffer.subarray(0, r.at), r.buffer.subarray(r.at), iv).subarray(0, 32), head.subarray(16)]
  } catch {
    return true // the key object of another secret
  }
  return true
}
/** Opens a header and its box (section 4): a reader of the body, and who signed it. */
function openBox(type, bytes) {
  const [head, id] = [bytes.subarray(0, 32), bytes.subarray(32, 64)]
  const key = derive('structure', epochOf(head, type))
  const plain = openGcm(hmac(key, 'holdfast/1 seal', type, id), cat(head, id), bytes.subarray(64))
  must(id.equals(hmac(hmac(key, 'holdfast/1 content id'), type, plain)), 'it has another content id than it says')
  const r = reader(plain)
  const [body, signer, signature] = [r.get(r.u(64)), r.get(32), r.get(64)]
  must(plain.length === pad(r.at) && plain.subarray(r.at).every((byte) => byte === 0), 'it is padded wrongly')
  const signed = cat('holdfast/1 signed\n', type, domain, digest(crypto.createHash('sha256'), body, signer))
  must(crypto.verify(null, signed, publicKey('302a300506032b6570032100', signer), signature), 'it has a wrong signature')
  return { ...reader(body), signer }
}
function checkWriter({ signer }, writer, session) {
  const agent = signer.equals(signerOf('writer')) ? { id: Buffer.alloc(16), state: 1 } : agents.get(hex(signer))
  must(agent?.id.equals(writer), 'it is signed by a writer that the roster does not list, or by another than it names')
  if (agent.state === 1) return
  const r = openBox(SESSION, readFile(`${directory}/sessions/${hex(session)}`)).fields('entry:session writer:16 started:u:64')
  must(r.entry.id.equals(session) && r.started < agent.since, 'it is signed by a revoked writer')
}
function readRoster(name) {
  const r = openBox(ROSTER, readFile(name))
  must(r.signer.equals(signerOf('sign')), 'it is not signed by the domain')
  const agent = () => r.fields('id:16 key:32 fingerprint:20 state:u:8 since:u:64 label:bytes:64')
  return { ...r.fields('number:u:32 made:u:64'), agents: r.list(MIB, agent), isWhole: r.end() }
}
function openSession({ id, epoch, sealed, commitment }) {
  const pair = keep(`keys ${epoch}`, () => xwingKeys(derive('content', epoch)))
  const wrap = hkdf(xwingDecapsulate(pair, sealed.subarray(0, 1120)), '', 'holdfast/1 session')
  const key = openGcm(wrap, cat(domain, id), sealed.subarray(1120))
  return must(commitment.equals(hmac(key, 'holdfast/1 commitment', id)), 'a session key is not the one committed to') && key
}
// ---- Packs, segments and blobs (section 6) ----
const SEGMENT = `kind:u:8 codec:u:8 session:varint epoch:u:32 sealed:varint:${64 * MIB} plain:varint:${16 * MIB} id:32 hash:32`
function readPack(path) {
  const trailer = readFile(path, 64 * MIB, -96, 96)
  const key = hmac(derive('structure', epochOf(trailer, PACK)), 'holdfast/1 trailer', trailer.subarray(32, 64))
  const { start, length } = reader(openGcm(key, trailer.subarray(0, 64), trailer.subarray(64))).fields('start:u:64 length:u:64')
  const r = openBox(PACK, readFile(path, 64 * MIB, start, length))
  const { session, id, writer } = r.fields('session:16 id:16 writer:16')
  must(path.endsWith(`/packs/${hex(id).slice(0, 2)}/${hex(session)}-${hex(id)}`), 'it has another name inside')
  checkWriter(r, writer, session)
  const sessions = r.list(65536, r.session)
  let at = 0
  r.list(1e6, () => {
    const s = { path, at, ...r.fields(SEGMENT) }
    const isOwned = s.kind === REFERENCES ? s.session === 0 : (s.entry = sessions[s.session])?.epoch === s.epoch
    must(s.kind >= 1 && s.kind <= 3 && s.codec <= 1 && isOwned, 'it lists a segment of another kind, codec or session')
    let from = 0
    r.list(65536, () => {
      const [key, length] = [`${s.kind} ${hex(r.get(32))}`, r.varint()]
      places.set(key, { s, from, length, next: places.get(key) })
      from += length
    })
    must(from === s.plain && (s.codec === 1 || s.sealed === s.plain + 16), 'it lists blobs that are not the whole of their segment')
    at += s.sealed
  })
  must(at === start && r.end(), 'it lists segments that do not reach its footer')
}
/** Opens a sealed segment. Its key depends on its id, so its id is not computed again; the blobs in it are checked one by one. */
function openSegment(s, sealed = readFile(s.path, 64 * MIB, s.at, s.sealed)) {
  const base = s.kind === REFERENCES ? derive('structure', s.epoch) : keep(hex(s.entry.sealed), () => openSession(s.entry))
  const payload = openGcm(hmac(base, 'holdfast/1 segment', s.id), cat(1, domain, s.kind, s.codec, u32(s.epoch), s.id), sealed)
  if (s.codec === 0) return payload
  const { buffer, engine } = zstdDecompressSync(payload, { info: true, params: ZSTD, maxOutputLength: Math.max(1, s.plain) })
  return must(buffer.length === s.plain && engine.bytesWritten === payload.length, 'a segment has another length than is said') && buffer
}
function blob(kind, id, hash, expected = id) {
  for (let place = places.get(`${kind} ${hex(id)}`); place; place = place.next) {
    const { s, from, length } = place
    const bytes = attempt(`${s.path} at ${s.at}`, () => keep(s, () => openSegment(s)).subarray(from, from + length))
    if (bytes && length > 0 && length <= (kind === CHUNK ? 16 : 8) * MIB && hash(bytes).equals(expected)) return bytes
  }
  return refuse(`blob ${hex(id)} is in no pack, or damaged wherever it is`)
}
const chunk = (id) => blob(CHUNK, id, (bytes) => blake3(bytes, derive('id')))
// ---- Trees and snapshots (section 8) ----
/** What is read from the directory (1) or chunk-list (3) nodes below an id. `refer` takes the next reference, a chunk (0) or node (1). */
function* items(id, type, read, last = {}, level = 0) {
  const r = reader(blob(REFERENCES, id, (bytes) => blake3(cat('node', bytes), derive('tree id'))))
  const { version, is, hash } = r.fields('version:u:8 is:u:8 hash:32')
  const references = r.list(65536, () => r.fields('what:u:8 id:32'))
  const node = reader(blob(PRIVATE, id, (bytes) => blake3(cat('private', bytes), derive('tree id')), hash))
  const isPages = is === type + 1
  must(r.end() && version === 1 && (isPages || is === type) && level <= 8, 'a tree node is of another version or type')
  node.refer = (what) => must(references[0]?.what === what, 'a tree node lacks a reference') && references.shift().id
  let n = ((said) => (is === 3 ? references.length : said))(node.varint(is === 3 ? undefined : 65536))
  for (must(n > 0 || level === 0, 'a tree node has an empty page'); n > 0; n--) {
    if (isPages) node.fields(type === 1 ? 'first:bytes:255 below:varint' : 'below:varint')
    yield* isPages ? items(node.refer(1), type, read, last, level + 1) : [read(node, last)]
  }
  must(node.end() && references.length === 0, 'a tree node has references left over')
}
function readEntry(r, last = {}) {
  const e = r.fields('name:bytes:255 kind:u:8 flags:u:16 mode:u:16 uid:varint gid:varint seconds:svarint64 nanoseconds:varint:999999999')
  must(e.name.length > 0 && !/^\.{1,2}$|[/\0]/.test(e.name.toString('latin1')), 'a directory has an entry whose name is no name')
  must(!(last.name?.compare(e.name) >= 0) && (last.name = e.name), 'a directory is not sorted')
  const allowed = [0, 63, 98, 35, 35, 35, 35][e.kind] // flags
  must(allowed && (e.flags & ~allowed) === 0 && (e.flags & 24) !== 24 && e.mode <= 0o7777, 'an entry has an unknown kind, flag or mode')
  e.size = e.kind === 1 ? r.varint() : 0
  if (e.kind === 2) e.child = r.refer?.(1)
  if (e.kind === 3) e.target = r.bytes(4095)
  if (e.kind > 4) e.device = [r.varint(8 ** 7 - 1), r.varint(8 ** 7 - 1)] // all that tar can say
  if (e.flags & 1) e.linked = `${r.varint64()} ${r.varint64()}`
  e.attributes = e.flags & 2 ? r.list(1024, () => r.fields('name:bytes:255 value:bytes:65536')) : []
  e.extents = e.flags & 4 ? r.list(65536, () => r.fields('gap:varint length:varint')) : [{ gap: 0, length: e.size }]
  const rest = e.extents.reduce((left, { gap, length }) => left - gap - length, e.size)
  e.extents.push({ gap: must(rest >= 0, 'a file has content beyond its size') && rest + (-e.size & 511), length: 0 }) // to a whole block
  if (e.flags & 8) e.parts = [r.bytes(256)]
  else if (e.flags & 16) e.parts = items(r.refer(1), 3, (node) => chunk(node.refer(0)))
  else if (e.kind === 1) e.parts = Iterator.from(r.list(65536, () => r.refer(0))).map(chunk)
  return e
}
function readSnapshot(path) {
  const outer = reader(readFile(path, 64 * MIB))
  const r = openBox(SNAPSHOT, cat(outer.get(32), outer.get(outer.u(32))))
  const counts = 'started:u:64 ended:u:64 files:u:64 directories:u:64 bytes:u:64'
  const { id, entry, ...s } = r.fields(`id:16 writer:16 entry:session series:32 sequence:u:64 previous:32 tree:32 ${counts}`)
  must(path.endsWith(`${hex(entry.id)}-${hex(id)}`), 'it has another name inside')
  checkWriter(r, s.writer, entry.id)
  for (let i = 0; i < 3; i++) r.list(MIB, () => r.get(32)) // tags, collection lists and index files, which are not needed here
  const part = { kind: ABOUT, entry, epoch: entry.epoch, ...r.fields('id:32 codec:u:8 sealed:u:32 plain:u:32 hash:32') }
  const sealed = outer.get(part.sealed)
  const isRight = part.plain <= 16 * MIB && part.codec <= 1 && part.hash.equals(blake3(sealed))
  must(r.end() && outer.end() && isRight, 'its private part is not the one that was signed, or over its limits')
  const about = JSON.parse(openSegment(part, sealed).toString())
  must(about.v === 1, 'its private part is of another version')
  return { ...s, id: hex(id), of: hex(cat(s.writer, s.series)), ref: hex(cat(entry.id, id)), about }
}
/** What a forget record says (section 13); nothing of a revoked writer's, since a copy does not tell when it was stored. */
function readForget(path) {
  const r = openBox(FORGET, readFile(path))
  const { name, writer } = r.fields('name:32 writer:16 made:u:64')
  const [merged, entries, taken] = ['ref:32', 'ref:32 about:72 why:u:8', 'ref:64'].map((of) => r.list(1e5, () => hex(r.fields(of).ref)))
  must(r.end() && path.endsWith(hex(name).replace(/^.{32}/, '$&-')), 'it has another name inside')
  if (agents.get(hex(r.signer))?.state === 2 || checkWriter(r, writer)) return []
  const by = hex(writer).replace(/^0+$/, '') // the root's begins every writer's: it speaks for all
  for (const entry of taken) undone.add(by + entry)
  return entries.map((ref) => ({ ref, by, at: new Set([hex(name), ...merged].flatMap((of) => [of + ref, by + of + ref])) }))
}
// ---- The archive (tar, pax) ----
const withLength = (rest) => cat(String(rest.length + String(rest.length + String(rest.length).length).length), rest) // counts itself
const record = ([key, value]) => withLength(cat(' ', key, '=', Buffer.isBuffer(value) ? value : String(value), '\n'))
const octal = (n, width = 7) => `${n.toString(8).padStart(width, '0')}\0`
function tarHeader(type, size, mode = 0, [major, minor] = [0, 0]) {
  const header = Buffer.alloc(512) // its name, and numbers that are too large for it, stand in the pax records
  const [front, device] = [octal(mode) + octal(0) + octal(0) + octal(size % 8 ** 11, 11) + octal(0, 11), octal(major) + octal(minor)]
  const texts = Object.entries({ 0: 'entry', 100: front, 148: `        ${type}`, 257: 'ustar\x0000', 329: device })
  for (const [at, text] of texts) header.write(text, Number(at))
  const sum = header.reduce((total, byte) => total + byte)
  header.write(octal(sum, 6), 148)
  return header
}
const escaped = (name) => Buffer.from(name.toString('latin1').replaceAll('%', '%25').replaceAll('=', '%3D'), 'latin1')
function headers(path, e, link) {
  const time = e.seconds * 1000000000n + BigInt(e.nanoseconds)
  const [sign, digits] = [time < 0n ? '-' : '', String(time < 0n ? -time : time).padStart(10, '0')]
  const [linkpath, size, type] = link ? [link, 0, '1'] : [e.target, e.size, 'x052634'[e.kind]]
  const charset = [path, linkpath ?? path].every((name) => cat(name.toString()).equals(name)) ? {} : { hdrcharset: 'BINARY' }
  const fields = { ...charset, path, ...(linkpath && { linkpath }), uid: e.uid, gid: e.gid, size }
  const records = Object.entries({ ...fields, mtime: `${sign}${digits.slice(0, -9)}.${digits.slice(-9)}` })
  for (const { name, value } of e.attributes) records.push([cat('SCHILY.xattr.', escaped(name)), value])
  const pax = cat(...records.map(record))
  return cat(tarHeader('x', pax.length), pax, Buffer.alloc(-pax.length & 511), tarHeader(type, size, e.mode, e.device))
}
/** The content of a file up to a whole block, with zeros in the gaps. True when all of it was there. */
function* contentOf(path, { extents, parts = [] }) {
  let [source, bytes] = [Iterator.from(parts), Buffer.alloc(0)]
  for (const { gap, length } of extents) {
    for (let n = gap; n > 0; n -= MIB) yield Buffer.alloc(Math.min(n, MIB))
    for (let [n, piece] = [length]; n > 0; [n, bytes] = [n - piece.length, bytes.subarray(piece.length)]) {
      if (bytes.length === 0) bytes = attempt(path, () => source.next().value ?? refuse('its content is shorter than its size'))
      if (!bytes) return false
      yield (piece = bytes.subarray(0, n))
    }
  }
  return attempt(path, () => must(bytes.length === 0 && !source.next().value?.length, 'its content is longer than its size says'))
}
/** The archive of a snapshot, with no more in it than the snapshot says. Damaged content ends it: the file's size has been said. */
function* archive({ tree, files, directories, bytes, about }) {
  const first = new Map() // of every linked file: where it is, and what
  const top = about.root && readEntry(reader(Buffer.from(about.root, 'base64')))
  if (top && !(top.flags & 64)) yield headers(Buffer.from('.'), top)
  const left = [files, Math.max(0, directories - 1), bytes]
  const open = [{ path: Buffer.from('.'), entries: items(tree, 1, readEntry) }]
  for (let inside; (inside = open.at(-1));) {
    const e = attempt(inside.path, () => inside.entries.next().value)
    if (!e && open.pop()) continue
    for (const [i, n] of [e.kind === 1, e.kind === 2, e.size].entries()) left[i] -= n
    must(Math.min(...left) >= 0 && open.length <= 4097, 'the tree has more in it than its snapshot says', 4)
    const [path, known] = [cat(inside.path, '/', e.name), first.get(e.linked)]
    must(!known || (known.e.kind === e.kind && known.e.size === e.size), `${show(path)} is a hard link of another thing`, 4)
    yield headers(path, e, known?.path)
    if (!known && !(yield* contentOf(path, e))) return
    if (e.linked && !known) first.set(e.linked, { path, e })
    if (e.kind === 2) open.push({ path, entries: items(e.child, 1, readEntry) })
  }
  yield Buffer.alloc(1024)
}
const USAGE = fs.readFileSync(import.meta.filename, 'utf8').split('\nimport')[0]
async function main() {
  const { values, positionals } = parseArgs({ options: { keys: { type: 'string' }, help: { type: 'boolean' } }, allowPositionals: true })
  if (values.help) return console.log(USAGE)
  must(([directory, wanted] = positionals)[0] && positionals.length <= 2, USAGE, 2)
  must(code || password, 'set HOLDFAST_RECOVERY_CODE (36 characters, the last four check the others) or HOLDFAST_PASSWORD', text ? 12 : 2)
  const keys = [`${directory}/keys`, values.keys ?? ''].flatMap((folder) => readAll(folder, KEY_NAME, openKey))
  must(keys.length + told.size > 0, 'there is no key object; name the folder that holds it with --keys', 1)
  must(root, 'no key object opens with this recovery code or passphrase', told.size > 0 ? 4 : 12)
  const [roster] = readAll(`${directory}/rosters`, NAME, readRoster).sort((a, b) => b.number - a.number || b.made - a.made)
  for (const agent of roster?.agents ?? []) agents.set(hex(agent.key), agent)
  const shape = !wanted || wanted === 'latest' ? NAME : new RegExp(`^[0-9a-f]{32}-(?=[0-9a-f]{32}$)${RegExp.escape(wanted)}`)
  const [before, snapshots] = [told.size, readAll(`${directory}/snapshots`, shape, readSnapshot)]
  for (const a of snapshots) a.at = Math.min(...snapshots.filter((b) => b.of === a.of && b.sequence >= a.sequence).map((b) => b.started))
  for (const key of ['id', 'started', 'sequence', 'of', 'at']) snapshots.sort((a, b) => (a[key] < b[key] ? -1 : a[key] > b[key] ? 1 : 0))
  const [unsure, forgets] = [told.size > before, readAll(`${directory}/lists/forgets`, NAME, readForget).flat()]
  const isForgotten = (a) => forgets.some((b) => b.ref === a.ref && a.of.startsWith(b.by) && b.at.isDisjointFrom(undone))
  if (wanted) {
    const found = wanted !== 'latest' ? snapshots : unsure ? [] : snapshots.filter((one) => !isForgotten(one)).slice(-1)
    must(found.length === 1, `${unsure ? 'damage: name one by id, not' : 'no snapshot, or several:'} ${show(wanted)}`, told.size ? 4 : 1)
    readAll(`${directory}/packs`, PACK_NAME, readPack)
    await pipeline(archive(found[0]), process.stdout)
  }
  for (const one of wanted ? [] : snapshots) {
    const texts = [one.about.host, one.about.source, ...one.about.paths.map((path) => Buffer.from(path, 'base64'))].map(show)
    console.log([one.id, new Date(one.started).toISOString() + (isForgotten(one) ? ' forgotten' : ''), ...texts].join('  '))
  }
  return told.size > 0 ? 4 : 0
}
const failed = (error) =>
  console.error(`holdfast-reader: ${error.message}`) ?? error.exitCode ?? (String(error.code).startsWith('ERR_PARSE_ARGS') ? 2 : 1)
if (import.meta.main) process.exitCode = await main().catch(failed)

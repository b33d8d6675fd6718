// Restores one snapshot of a copied Holdfast repository (format 1), made from agent/repository/FORMAT.md alone and sharing no code with
// Holdfast. Needs Node 24.7 or newer and nothing else; `touch`, `mkfifo`, `mknod`, `xargs` and `setfattr` where a snapshot calls for them.
//   node holdfast-reader.mjs REPOSITORY-DIR [SNAPSHOT-ID-PREFIX|latest] TARGET-DIR [--keys DIR] [--exact-times]
//   node holdfast-reader.mjs REPOSITORY-DIR --list [--keys DIR]
// The secret comes from HOLDFAST_RECOVERY_CODE or HOLDFAST_PASSWORD. --keys: key objects that stand outside the repository. Times are exact
// to a microsecond; --exact-times restores every nanosecond with one `touch` for each entry. TARGET-DIR must be empty or missing.
// Exit codes: 0 done, 1 failed, 2 usage, 3 some things were not restored (named), 4 damage was found (named), 12 wrong code or passphrase.
import * as crypto from 'node:crypto'
import * as fs from 'node:fs'
import { join, resolve } from 'node:path'
import { spawnSync } from 'node:child_process'
import { zstdDecompressSync } from 'node:zlib'

const MIB = 2 ** 20
const [REPOSITORY, KEY, SESSION, PACK, INDEX, SNAPSHOT, ROSTER] = [1, 2, 3, 4, 5, 6, 7]
const [CHUNK_SEGMENT, PRIVATE_SEGMENT, REFERENCE_SEGMENT, SNAPSHOT_SEGMENT] = [1, 2, 3, 4]
const SIGNED = 'holdfast/1 signed\n'

/** An object that is not what the format says: named, passed over, and exit code 4 at the end. */
export class Damage extends Error {}
class Stop extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}
const must = (holds, message) => {
  if (!holds) throw new Damage(typeof message === 'function' ? message() : message)
}

// ---- Bytes and cryptography (sections 1 and 3) ----
const bytesOf = (part) => (typeof part === 'number' ? Buffer.of(part) : typeof part === 'string' ? Buffer.from(part) : part)
const cat = (...parts) => Buffer.concat(parts.map(bytesOf))
const u32 = (n) => Buffer.from(Uint32Array.of(n).buffer)
const hex = (bytes) => bytes.toString('hex')
const sha256 = (...parts) => crypto.hash('sha256', cat(...parts), 'buffer')
function hmac(key, ...parts) {
  const mac = crypto.createHmac('sha256', key)
  for (const part of parts) mac.update(bytesOf(part))
  return mac.digest()
}
const hkdf = (secret, salt, info) => Buffer.from(crypto.hkdfSync('sha256', secret, salt, info, 32))
const der = (prefix, bytes) => Buffer.concat([Buffer.from(prefix, 'hex'), bytes])
const privateKey = (prefix, seed) => crypto.createPrivateKey({ key: der(prefix, seed), format: 'der', type: 'pkcs8' })
const publicKey = (prefix, bytes) => crypto.createPublicKey({ key: der(prefix, bytes), format: 'der', type: 'spki' })
const publicBytes = (key, length) => crypto.createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-length)

/** Opens AES-256-GCM; ciphertext and 16-byte tag in one buffer. */
function openGcm(key, aad, sealed, what, nonce = Buffer.alloc(12)) {
  must(sealed.length >= 16, `${what} is too short`)
  try {
    const cipher = crypto.createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 }).setAAD(aad).setAuthTag(sealed.subarray(-16))
    return Buffer.concat([cipher.update(sealed.subarray(0, -16)), cipher.final()])
  } catch {
    throw new Damage(`${what} does not open: it was changed, or sealed under another key`)
  }
}
function verifies(ed25519, message, signature) {
  return crypto.verify(null, message, publicKey('302a300506032b6570032100', ed25519), signature)
}
/** The three private parts that an X-Wing seed of 32 bytes stands for, and the public key (1216 bytes). */
export function xwingKeys(seed) {
  const wide = crypto.createHash('shake256', { outputLength: 96 }).update(seed).digest()
  const mlkem = privateKey('3054020100300b060960864801650304040204428040', wide.subarray(0, 64))
  const x25519 = privateKey('302e020100300506032b656e04220420', wide.subarray(64))
  return { mlkem, x25519, public: cat(publicBytes(mlkem, 1184), publicBytes(x25519, 32)) }
}
export function xwingDecapsulate(keys, ciphertext) {
  const ephemeral = ciphertext.subarray(1088, 1120)
  let shared = Buffer.alloc(32)
  try {
    shared = crypto.diffieHellman({ privateKey: keys.x25519, publicKey: publicKey('302a300506032b656e032100', ephemeral) })
  } catch {
    shared.fill(0) // OpenSSL refuses a point of small order, X-Wing does not: the secret of such a point is zero
  }
  const label = Buffer.from('5c2e2f2f5e5c', 'hex')
  const secret = crypto.decapsulate(keys.mlkem, ciphertext.subarray(0, 1088))
  return crypto.hash('sha3-256', cat(secret, shared, ephemeral, keys.public.subarray(1184), label), 'buffer')
}
/** Padmé. */
export function pad(n) {
  if (n < 2) return n
  const e = Math.floor(Math.log2(n))
  const unit = 2 ** (e - Math.floor(Math.log2(e)) - 1)
  return Math.ceil(n / unit) * unit
}
/** The 20 bytes of a recovery code, or null when it is not one (alphabet, length or check digits). */
export function recoveryCode(text) {
  const digits = text.toLowerCase().replace(/[-\s]/g, '').replace(/[il]/g, '1').replace(/o/g, '0')
  if (!/^[0-9a-hjkmnp-tv-z]{36}$/.test(digits)) return null
  let bits = ''
  for (const digit of digits) bits += '0123456789abcdefghjkmnpqrstvwxyz'.indexOf(digit).toString(2).padStart(5, '0')
  const code = Buffer.from(Array.from({ length: 20 }, (_, i) => parseInt(bits.slice(i * 8, i * 8 + 8), 2)))
  const check = hex(sha256('holdfast/1 recovery code', code)).slice(0, 5)
  return parseInt(bits.slice(160), 2) === parseInt(check, 16) ? code : null
}

// ---- BLAKE3-256, plain and keyed, as its paper describes it ----
const IV = Int32Array.of(0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19)
const PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
const [CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED] = [1, 2, 4, 8, 16]
const mix = (a, b, c, d, x, y) => {
  const half = (word, r1, r2) => `v${a} = (v${a} + v${b} + m${word}) | 0; v${d} ^= v${a}; v${d} = (v${d} << ${32 - r1}) | (v${d} >>> ${r1});
    v${c} = (v${c} + v${d}) | 0; v${b} ^= v${c}; v${b} = (v${b} << ${32 - r2}) | (v${b} >>> ${r2});`
  return half(x, 16, 12) + half(y, 8, 7)
}
/** Compresses the 16 words m into the chaining value cv, in place. Its 7 rounds are written out by a loop: five times faster than a loop in it. */
const compress = (() => {
  let [body, order] = ['', PERMUTATION.map((_, i) => i)]
  for (let i = 0; i < 16; i++) body += `let m${i} = m[${i}], v${i} = ${i < 8 ? `cv[${i}]` : i < 12 ? IV[i - 8] : `tail[${i - 12}]`} | 0;`
  for (let round = 0; round < 7; round++, order = PERMUTATION.map((i) => order[i])) {
    for (let i = 0; i < 4; i++) body += mix(i, 4 + i, 8 + i, 12 + i, order[2 * i], order[2 * i + 1])
    for (let i = 0; i < 4; i++) {
      body += mix(i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4), order[8 + 2 * i], order[9 + 2 * i])
    }
  }
  for (let i = 0; i < 8; i++) body += `cv[${i}] = v${i} ^ v${i + 8};`
  const rounds = new Function('cv', 'm', 'tail', body)
  const tail = new Int32Array(4)
  return (cv, m, counter, length, flags) => {
    tail[0] = counter
    tail[1] = Math.floor(counter / 2 ** 32)
    tail[2] = length
    tail[3] = flags
    rounds(cv, m, tail)
  }
})()
/** BLAKE3-256 of the data, keyed when a 32-byte key is given. */
export function blake3(data, key) {
  const start = key ? Int32Array.from({ length: 8 }, (_, i) => key.readInt32LE(i * 4)) : IV
  const mode = key ? KEYED : 0
  const chunks = Math.max(1, Math.ceil(data.length / 1024))
  const [m, last, stack] = [new Int32Array(16), Buffer.alloc(64), []]
  const parent = (left, right, flags) => {
    m.set(left, 0)
    m.set(right, 8)
    const cv = Int32Array.from(start)
    compress(cv, m, 0, 64, mode | PARENT | flags)
    return cv
  }
  let cv
  for (let chunk = 0; chunk < chunks; chunk++) {
    const end = Math.min(data.length, chunk * 1024 + 1024)
    cv = Int32Array.from(start)
    for (let at = chunk * 1024, first = true; first || at < end; at += 64, first = false) {
      const length = Math.min(64, end - at)
      let [block, base] = [data, at]
      if (length < 64) [block, base] = [last.fill(0), data.copy(last, 0, at, end) * 0]
      for (let i = 0, b = base; i < 16; i++, b += 4) m[i] = block[b] | (block[b + 1] << 8) | (block[b + 2] << 16) | (block[b + 3] << 24)
      const ends = at + 64 >= end ? CHUNK_END | (chunks === 1 ? ROOT : 0) : 0
      compress(cv, m, chunk, length, mode | (first ? CHUNK_START : 0) | ends)
    }
    if (chunk + 1 === chunks) break
    for (let total = chunk + 1; total % 2 === 0; total /= 2) cv = parent(stack.pop(), cv, 0)
    stack.push(cv)
  }
  while (stack.length > 0) cv = parent(stack.pop(), cv, stack.length === 0 ? ROOT : 0)
  const digest = Buffer.alloc(32)
  cv.forEach((word, i) => digest.writeInt32LE(word, i * 4))
  return digest
}

/** Reads fields one after the other; everything is bounded by what remains. */
export class Cursor {
  constructor(buffer, what) {
    Object.assign(this, { buffer, what, at: 0 })
  }
  take(n) {
    must(n <= this.buffer.length - this.at, () => `${this.what} ends too early`)
    return this.buffer.subarray(this.at, (this.at += n))
  }
  u8 = () => this.take(1)[0]
  u16 = () => this.take(2).readUInt16LE()
  u32 = () => this.take(4).readUInt32LE()
  u64 = (limit) => this.number(this.take(8).readBigUInt64LE(), limit)
  number(big, limit = Number.MAX_SAFE_INTEGER) {
    must(big <= BigInt(limit), () => `${this.what} holds the number ${big}, over its limit of ${limit}`)
    return Number(big)
  }
  varint64() {
    let value = 0n
    for (let i = 0; ; i++) {
      const byte = this.u8()
      value |= BigInt(byte & 127) << BigInt(7 * i)
      must(i < 9 || byte <= 1, () => `${this.what} holds a number over 64 bits`)
      if (byte < 128) {
        must(byte !== 0 || i === 0, () => `${this.what} holds a number that is not in its shortest form`)
        return value
      }
    }
  }
  varint = (limit) => this.number(this.varint64(), limit)
  svarint64() {
    const n = this.varint64()
    return (n >> 1n) ^ -(n & 1n)
  }
  bytes = (limit) => this.take(this.varint(limit))
  /** A list of n things of at least `least` bytes each. */
  list(n, least, read) {
    must(n * least <= this.buffer.length - this.at, () => `${this.what} counts more than it holds`)
    return Array.from({ length: n }, (_, i) => read(i))
  }
  zeros(n) {
    must(
      this.take(n).every((byte) => byte === 0),
      () => `${this.what} has reserved bytes that are not zero`,
    )
  }
  end() {
    must(this.at === this.buffer.length, () => `${this.what} has bytes left over`)
  }
}

// ---- Objects, keys, boxes, packs and the view (sections 2 to 7) ----
const PAIR = /^[0-9a-f]{32}-[0-9a-f]{32}$/
const memo = (make) => {
  const cache = new Map()
  return (key) => cache.get(key) ?? cache.set(key, make(key)).get(key)
}
const pairOf = (c) => `${hex(c.take(16))}-${hex(c.take(16))}`

export class Repository {
  domain = null
  held = 0
  /** Opens the repository with a secret. report(text) is told of everything damaged. */
  constructor(directory, { code, password, keysDirectory, report }) {
    Object.assign(this, { directory, report })
    const described = this.each(['repository'], (name) => this.readDescription(name))[0]
    const beside = keysDirectory ? fs.readdirSync(keysDirectory, { recursive: true }).map((name) => resolve(keysDirectory, name)) : []
    const mine = cat('HOLDFAST', 1, KEY, Buffer.alloc(6), this.domain ?? '') // what else lies in the folder is passed over
    const isKey = (path) =>
      fs.statSync(path).isFile() && this.open(path, (fd, size) => size >= 32 && readAt(fd, 0, mine.length).equals(mine))
    const files = [...this.names('keys', /^[0-9a-f]{32}$/), ...beside.filter(isKey)]
    if (files.length === 0) throw new Stop(1, `there is no key object in ${directory}/keys; name the folder that holds it with --keys`)
    const tried = this.each(files, (path) => (this.root ? [] : [this.openKey(path, code, password)])).flat()
    if (!this.root) throw tried.length > 0 ? new Stop(12, 'wrong recovery code or passphrase') : new Stop(4, 'no key object can be read')
    const derive = (label, epoch = 0) => hkdf(this.root, this.domain, cat(`holdfast/1 ${label}`, u32(epoch)))
    const signer = (label) => publicBytes(privateKey('302e020100300506032b657004220420', derive(label)), 32)
    ;[this.treeKey, this.idKey, this.recordKey] = [derive('tree id'), derive('id'), derive('record')]
    ;[this.domainSigner, this.rootWriter] = [signer('sign'), signer('writer')]
    if (described && !described.equals(this.domainSigner)) report("repository: its signing key is not the domain's")
    this.structureKey = memo((epoch) => derive('structure', epoch))
    this.contentKeys = memo((epoch) => xwingKeys(derive('content', epoch)))
    this.sessionStart = memo((id) => this.readSession(id))
    const rosters = this.each(this.names('rosters', PAIR), (name) => this.readRoster(name)).sort((a, b) => b.number - a.number)
    this.agents = rosters[0]?.agents ?? new Map()
    this.sessionKeys = new Map()
    this.segments = new Map()
    const indexes = this.each(this.names('index', PAIR), (name) => this.readIndex(name))
    const replaced = new Set(indexes.flatMap((index) => index.replaces))
    this.view = indexes.filter((index) => !replaced.has(index.name))
  }
  names(folder, pattern) {
    const path = join(this.directory, folder)
    const found = fs.existsSync(path) ? fs.readdirSync(path).filter((name) => pattern.test(name)) : []
    return found.sort().map((name) => join(folder, name))
  }
  /** Reads each; one that is refused is reported and left out. */
  each(names, read) {
    return names.flatMap((name) => {
      try {
        return [read(name)]
      } catch (error) {
        if (!(error instanceof Damage)) throw error
        this.report(error.message.includes(name) ? error.message : `${name}: ${error.message}`)
        return []
      }
    })
  }
  file(name, limit = MIB) {
    return this.open(name, (fd, size) => {
      must(size <= limit, `${name} is over the limit of its size`)
      return readAt(fd, 0, size)
    })
  }
  /** Reads from the repository; what cannot be read is damage. */
  open(name, run) {
    let fd
    try {
      fd = fs.openSync(resolve(this.directory, name))
      return run(fd, fs.fstatSync(fd).size)
    } catch (error) {
      throw error.syscall ? new Damage(`${name} cannot be read: ${error.message}`) : error
    } finally {
      if (fd !== undefined) fs.closeSync(fd)
    }
  }
  /** Checks a header and gives its epoch. */
  header(bytes, type, what) {
    must(bytes.length >= 32 && bytes.toString('latin1', 0, 8) === 'HOLDFAST', `${what} is not an object of Holdfast`)
    if (bytes[8] > 1) throw new Stop(1, `${what} was made by a newer Holdfast`)
    must(bytes[8] === 1 && bytes[9] === type && bytes.readUInt16LE(10) === 0, `${what} has another type or reserved bytes in use`)
    must(!this.domain || this.domain.equals(bytes.subarray(16, 32)), `${what} belongs to another domain`)
    return bytes.readUInt32LE(12)
  }
  readDescription(name) {
    const b = this.file(name)
    must(b.length === 150 && this.header(b, REPOSITORY, name) === 0 && [1, 2].includes(b[40]) && b[53] <= 1, `${name} is malformed`)
    must(
      verifies(b.subarray(54, 86), cat(SIGNED, 1, b.subarray(16, 32), sha256(b.subarray(0, 86))), b.subarray(86)),
      `${name}: wrong signature`,
    )
    this.domain = b.subarray(16, 32)
    return b.subarray(54, 86)
  }
  openKey(name, code, password) {
    const b = this.file(name)
    must(this.header(b, KEY, name) === 0, `${name} has an epoch`)
    const c = new Cursor(b, name)
    const [, kdf, memory, passes, parallelism, nonce, iv] = [c.take(32), c.u8(), c.u32(), c.u32(), c.u32(), c.take(16), c.take(12)]
    const inside = memory >= 8192 && memory <= MIB && passes >= 1 && passes <= 16 && parallelism >= 1 && parallelism <= 16
    must(kdf === 2 ? memory + passes + parallelism === 0 : kdf === 1 && inside, `${name} derives its key outside of the limits`)
    if (kdf === 2 ? !code : !password) return
    const options = () => ({ message: Buffer.from(password.normalize('NFC')), nonce, memory, passes, parallelism, tagLength: 32 })
    const key = kdf === 2 ? hkdf(code, nonce, 'holdfast/1 recovery code') : crypto.argon2Sync('argon2id', options())
    let plain
    try {
      plain = new Cursor(openGcm(key, b.subarray(0, c.at), b.subarray(c.at), name, iv), name)
    } catch {
      return
    }
    const root = plain.take(32)
    plain.u64()
    plain.bytes(64)
    plain.end()
    ;[this.root, this.domain] = [root, b.subarray(16, 32)]
  }
  /** Opens a box (section 4): a cursor over its body, and the signer's key. */
  box(type, what, head, box) {
    const key = this.structureKey(this.header(head, type, what))
    const id = box.subarray(0, 32)
    const p = openGcm(hmac(key, 'holdfast/1 seal', type, id), cat(head, id), box.subarray(32), what)
    must(id.equals(hmac(hmac(key, 'holdfast/1 content id'), type, p)), `${what}: wrong content id`)
    const c = new Cursor(p, what)
    const body = c.take(c.u64())
    const [signer, signature] = [c.take(32), c.take(64)]
    must(p.length === pad(104 + body.length), `${what}: wrong padding`)
    c.zeros(p.length - c.at)
    must(verifies(signer, cat(SIGNED, type, this.domain, sha256(body, signer)), signature), `${what}: wrong signature`)
    return [new Cursor(body, what), signer]
  }
  /** Is the signer one that may write, as this writer id, in this session? (sections 4 and 9) */
  writer(what, signer, writerId, session, started) {
    const agent = signer.equals(this.rootWriter) ? { id: Buffer.alloc(16) } : this.agents.get(hex(signer))
    must(agent, `${what} is signed by a writer that the roster does not list`)
    must(!writerId || agent.id.equals(writerId), `${what} is signed by another writer than it names`)
    must(!agent.revoked || (started ?? this.sessionStart(session)) < agent.since, `${what} is signed by a revoked writer`)
  }
  readRoster(name) {
    const b = this.file(name)
    const [c, signer] = this.box(ROSTER, name, b.subarray(0, 32), b.subarray(32))
    must(signer.equals(this.domainSigner), `${name} is not signed by the domain`)
    const number = c.u32()
    c.u64()
    const agent = () => {
      const [id, key, , status, since] = [c.take(16), c.take(32), c.take(20), c.u8(), c.u64()]
      must(status === 1 || status === 2, `${name} has an unknown state`)
      c.bytes(64)
      return [hex(key), { id, since, revoked: status === 2 }]
    }
    const agents = new Map(c.list(c.varint(), 78, agent))
    c.end()
    return { number, agents }
  }
  readSession(id) {
    const b = this.file(`sessions/${id}`)
    const [c, signer] = this.box(SESSION, `sessions/${id}`, b.subarray(0, 32), b.subarray(32))
    const [entry, writer, started] = [this.sessionEntry(c), c.take(16), c.u64()]
    c.end()
    must(hex(entry.id) === id, `sessions/${id} has another id inside`)
    this.writer(`sessions/${id}`, signer, writer, id, started)
    return started
  }
  sessionEntry(c) {
    return { id: c.take(16), epoch: c.u32(), sealed: c.take(1168), commitment: c.take(32) }
  }
  /** The session key of an entry, opened once. */
  sessionKey({ id, epoch, sealed, commitment }) {
    const known = hex(sealed) + hex(commitment) + epoch
    if (this.sessionKeys.has(known)) return this.sessionKeys.get(known)
    const what = `the key of session ${hex(id)}`
    const wrap = hkdf(xwingDecapsulate(this.contentKeys(epoch), sealed.subarray(0, 1120)), Buffer.alloc(0), 'holdfast/1 session')
    const key = openGcm(wrap, cat(this.domain, id), sealed.subarray(1120), what)
    must(commitment.equals(hmac(key, 'holdfast/1 commitment', id)), `${what} is not the one committed to`)
    this.sessionKeys.set(known, key)
    return key
  }
  /** Checks what stands about a segment; sessions is the list that its ordinal counts in. */
  segmentEntry(s, sessions, what) {
    must(s.kind >= 1 && s.kind <= 3 && s.codec <= 1 && s.plain <= 16 * MIB, `${what} lists a segment of another kind, codec or size`)
    must(s.kind === REFERENCE_SEGMENT ? s.session === 0 : s.session < sessions.length, `${what} lists a segment of no session`)
    if (s.kind !== REFERENCE_SEGMENT) s.entry = sessions[s.session]
    must(!s.entry || s.entry.epoch === s.epoch, `${what} lists a segment of another epoch than its session`)
    must(s.codec === 1 || s.sealed === s.plain + 16, `${what} lists a segment of two sizes`)
    must(s.offset + s.sealed <= s.pack.size - 96, `${what} lists a segment outside of its pack`)
    return s
  }
  readIndex(path) {
    const b = this.file(path, 64 * MIB)
    const [c, signer] = this.box(INDEX, path, b.subarray(0, 32), b.subarray(32))
    const name = pairOf(c)
    must(path.endsWith(name), `${path} has another name inside`)
    this.writer(path, signer, null, name.slice(0, 32))
    const replaces = c.list(c.varint(), 32, () => pairOf(c))
    const sessions = c.list(c.varint(), 1220, () => this.sessionEntry(c))
    const packs = c.list(c.varint(), 40, () => ({ name: pairOf(c), size: c.u64(64 * MIB) }))
    const segments = c.list(c.u32(), 60, () => {
      const s = {
        pack: packs[c.u32()],
        offset: c.u64(64 * MIB),
        sealed: c.u32(),
        plain: c.u32(),
        kind: c.u8(),
        codec: c.u8(),
        session: c.u16(),
      }
      must(s.pack, `${path} lists a segment of no pack`)
      return this.segmentEntry(Object.assign(s, { epoch: c.u32(), id: c.take(32) }), sessions, path)
    })
    const count = c.u32()
    const blobs = c.take(count * 44)
    c.end()
    for (let at = 0; at < blobs.length; at += 44) {
      const segment = segments[blobs.readUInt32LE(at + 32)]
      must(
        segment && blobs.readUInt32LE(at + 36) + blobs.readUInt32LE(at + 40) <= segment.plain,
        `${path} lists a blob outside of its segment`,
      )
      if (at === 0) continue
      const order = blobs.compare(blobs, at - 44, at - 12, at, at + 32) // of this id and the one before
      must(order > 0 || (order === 0 && blobs.readUInt32LE(at - 12) <= blobs.readUInt32LE(at + 32)), `${path} is not sorted`)
    }
    return { name, replaces, segments, blobs }
  }

  /** What the footer of a pack says, as an index of one pack. */
  readFooter(path) {
    return this.open(path, (fd, size) => {
      must(size >= 128 * 1024 && size <= 64 * MIB, `${path} is not as large as a pack is`)
      const trailer = readAt(fd, size - 96, 96)
      const trailerKey = hmac(this.structureKey(this.header(trailer, PACK, path)), 'holdfast/1 trailer', trailer.subarray(32, 64))
      const place = new Cursor(openGcm(trailerKey, trailer.subarray(0, 64), trailer.subarray(64), `the trailer of ${path}`), path)
      const [start, length] = [place.u64(), place.u64()]
      must(start + length <= size - 96 && length >= 32, `${path} has its footer outside of it`)
      const footer = readAt(fd, start, length)
      const [c, signer] = this.box(PACK, path, footer.subarray(0, 32), footer.subarray(32))
      const pack = { name: pairOf(c), size }
      must(path.endsWith(pack.name), `${path} has another name inside`)
      this.writer(path, signer, c.take(16), pack.name.slice(0, 32))
      const sessions = c.list(c.varint(), 1220, () => this.sessionEntry(c))
      const rows = []
      let offset = 0
      const segments = c.list(c.varint(), 73, (ordinal) => {
        const s = { pack, offset, kind: c.u8(), codec: c.u8(), session: c.varint(), epoch: c.u32(), sealed: c.varint() }
        Object.assign(s, { plain: c.varint(), id: c.take(32) })
        offset += this.segmentEntry(s, sessions, path).sealed
        c.take(32)
        let from = 0
        for (let n = c.varint(65536); n > 0; n--) {
          const [id, length] = [c.take(32), c.varint()]
          rows.push({ id, ordinal, from, length })
          from += length
        }
        must(from === s.plain, `${path} lists blobs that are not the whole of their segment`)
        return s
      })
      c.end()
      must(offset === start, `${path} lists segments that do not reach its footer`)
      rows.sort((a, b) => a.id.compare(b.id) || a.ordinal - b.ordinal)
      return { segments, blobs: Buffer.concat(rows.map((row) => cat(row.id, u32(row.ordinal), u32(row.from), u32(row.length)))) }
    })
  }
  /** The footers of all packs, read once, when the index files do not suffice. */
  fromFooters() {
    this.report('some index files are missing or not whole: reading the footers of all packs', 'note')
    const packs = this.names('packs', /^[0-9a-f]{2}$/).flatMap((folder) =>
      this.names(folder, PAIR).filter((p) => p.slice(-32, -30) === folder.slice(-2)),
    )
    return this.each(packs, (path) => this.readFooter(path))
  }
  /** The places of a blob: { segment, from, length }. */
  *places(id, kind) {
    for (const index of this.view) yield* placesIn(index, id, kind)
    this.footers ??= this.fromFooters()
    for (const index of this.footers) yield* placesIn(index, id, kind)
  }
  /** A blob by its id and the kind of its segments; is(blob) checks that it hashes to the id. Tries all places. */
  blob(id, kind, is) {
    let problem = `${['', 'chunk', 'private part of node', 'reference part of node'][kind]} ${hex(id)} is in no pack`
    for (const { segment, from, length } of this.places(id, kind)) {
      try {
        const blob = this.segment(segment).subarray(from, from + length)
        must(length > 0 && blob.length === length && is(blob), `a blob in pack ${segment.pack.name} does not hash to its id ${hex(id)}`)
        return blob
      } catch (error) {
        if (!(error instanceof Damage)) throw error
        problem = error.message
        this.report(problem)
      }
    }
    throw new Damage(problem)
  }
  /** The plaintext of a segment in a pack; the last 64 MiB and what failed are remembered. */
  segment(s) {
    const key = `${s.pack.name} ${s.offset} ${hex(s.id)}`
    let plain = this.segments.get(key)
    if (plain instanceof Error) throw plain
    try {
      if (plain) this.segments.delete(key)
      else {
        const sealed = this.open(`packs/${s.pack.name.slice(33, 35)}/${s.pack.name}`, (fd) => readAt(fd, s.offset, s.sealed))
        plain = this.openSegment(s, sealed, `the segment at ${s.offset} of pack ${s.pack.name}`)
        this.held += plain.length
      }
    } catch (error) {
      if (error instanceof Damage) this.segments.set(key, error)
      throw error
    }
    this.segments.set(key, plain)
    for (const [other, { length }] of this.segments) {
      if (this.held <= 64 * MIB || other === key) break
      if (length !== undefined && this.segments.delete(other)) this.held -= length
    }
    return plain
  }
  openSegment(s, sealed, what) {
    const base = s.kind === REFERENCE_SEGMENT ? this.structureKey(s.epoch) : this.sessionKey(s.entry)
    const aad = cat(1, this.domain, s.kind, s.codec, u32(s.epoch), s.id)
    const payload = openGcm(hmac(base, 'holdfast/1 segment', s.id), aad, sealed, what)
    must(s.id.equals(blake3(cat(s.kind, s.codec, payload), hmac(base, 'holdfast/1 segment id'))), `${what} does not hash to its id`)
    if (s.codec === 0) return payload
    try {
      const { buffer, engine } = zstdDecompressSync(payload, { info: true, maxOutputLength: Math.max(1, s.plain) })
      must(buffer.length === s.plain && engine.bytesWritten === payload.length, `${what} has another length than is listed`)
      return buffer
    } catch (error) {
      throw new Damage(`${what} does not decompress: ${error.message}`)
    }
  }
  chunk = (id) => this.blob(id, CHUNK_SEGMENT, (blob) => blake3(blob, this.idKey).equals(id))
  /** A tree node (section 8): its type, a cursor over its private part, and its references, which are taken in order. */
  node(id, types) {
    const what = `tree node ${hex(id)}`
    const hashes = (label, hash) => (blob) => blake3(cat(label, blob), this.treeKey).equals(hash)
    const r = new Cursor(this.blob(id, REFERENCE_SEGMENT, hashes('node', id)), what)
    const [version, type, privateHash, count] = [r.u8(), r.u8(), r.take(32), r.varint(65536)]
    must(version === 1 && types.includes(type), `${what} is of another type than its place calls for`)
    const c = new Cursor(this.blob(id, PRIVATE_SEGMENT, hashes('private', privateHash)), what)
    must(c.buffer.length <= 8 * MIB && r.buffer.length === r.at + count * 33, `${what} is too large, or counts wrongly`)
    const references = (n, kind) => {
      const taken = r.take(n * 33)
      for (let i = 0; i < n; i++) must(taken[i * 33] === kind, `${what} has a reference of the wrong kind`)
      return Buffer.from(taken)
    }
    const node = () => references(1, 1).subarray(1)
    return { type, c, count, chunks: (n) => references(n, 0), node, end: () => (c.end(), r.end()) }
  }
  /** The entries of a directory, through its pages. */
  *entries(id, level = 0, last = { name: null }) {
    const node = this.node(id, [1, 2])
    must(level <= 8, 'a directory has too many levels of pages')
    for (let n = node.c.varint(65536); n > 0; n--) {
      if (node.type === 1) {
        const entry = readEntry(node.c, node)
        must(!last.name || last.name.compare(entry.name) < 0, `${node.c.what} is not sorted`)
        last.name = entry.name
        yield entry
      } else {
        const [first, below] = [node.c.bytes(255), node.c.varint()]
        let seen = 0
        for (const entry of this.entries(node.node(), level + 1, last)) {
          must(seen++ > 0 || first.equals(entry.name), `${node.c.what} names another first entry than its page has`)
          yield entry
        }
        must(seen === below && seen > 0, `${node.c.what} counts other entries than its page has`)
      }
    }
    node.end()
  }
  /** The chunks of a file's content, `length` bytes in all. */
  *content(entry, length) {
    if (entry.inline) yield entry.inline
    else if (entry.list) yield* this.listed(entry.list, length, 0)
    else for (let i = 1; i < entry.chunks.length; i += 33) yield this.chunk(entry.chunks.subarray(i, i + 32))
  }
  *listed(id, length, level) {
    const node = this.node(id, [3, 4])
    must(level <= 8, 'a file has too many levels of pages')
    let sum = 0
    if (node.type === 3) {
      must(node.c.varint() === length, `${node.c.what} has another length than its file`)
      const chunks = node.chunks(node.count)
      for (let i = 1; i < chunks.length; i += 33) {
        const chunk = this.chunk(chunks.subarray(i, i + 32))
        sum += chunk.length
        yield chunk
      }
    } else {
      for (let n = node.c.varint(65536); n > 0; n--) {
        const below = node.c.varint()
        must(below > 0, `${node.c.what} has an empty page`)
        sum += below
        yield* this.listed(node.node(), below, level + 1)
      }
    }
    must(sum === length, `${node.c.what} does not add up`)
    node.end()
  }
  readSnapshot(path) {
    const b = this.file(path, 64 * MIB)
    const outer = new Cursor(b, path)
    const head = outer.take(32)
    const [c, signer] = this.box(SNAPSHOT, path, head, outer.take(outer.u32()))
    const [id, writer, entry, series] = [c.take(16), c.take(16), this.sessionEntry(c), c.take(32)]
    must(path.endsWith(`${hex(entry.id)}-${hex(id)}`) && c.u64() >= 1, `${path} has another name inside, or no place in its series`)
    this.writer(path, signer, writer, hex(entry.id))
    c.take(32)
    const [tree, started, ended, files, directories, bytes] = [c.take(32), c.u64(), c.u64(), c.u64(), c.u64(), c.u64()]
    const tags = c.list(c.varint(), 32, () => hex(c.take(32)))
    for (let i = 0; i < 2; i++) c.list(c.varint(), 32, () => pairOf(c))
    const s = { kind: SNAPSHOT_SEGMENT, entry, epoch: entry.epoch, id: c.take(32), codec: c.u8(), sealed: c.u32(), plain: c.u32() }
    const [hash, sealed] = [c.take(32), outer.take(s.sealed)]
    c.end()
    outer.end()
    must(s.plain <= 16 * MIB && s.codec <= 1 && hash.equals(blake3(sealed)), `the private part of ${path} is not the one signed`)
    const text = this.openSegment(s, sealed, `the private part of ${path}`).toString()
    const about = parseAbout(text, path)
    must(Buffer.byteLength(text) === pad(Buffer.byteLength(text.trimEnd())), `the private part of ${path} is padded wrongly`)
    const token = (kind, rest) => blake3(cat(kind, 0, rest), this.recordKey)
    must(series.equals(token('series', cat(writer, about.source))), `${path} has a series token that is not its source's`)
    const named = new Set(about.tags.map((tag) => hex(token('tag', tag))))
    must(named.size === tags.length && tags.every((tag) => named.has(tag)), `${path} has tag tokens that are not its tags'`)
    return { id: hex(id), tree, started, ended, files, directories, bytes, about }
  }
}
function readAt(fd, at, length) {
  const bytes = Buffer.alloc(length)
  for (let got = 0, n = 1; got < length; got += n) {
    n = fs.readSync(fd, bytes, got, length - got, at + got)
    must(n > 0, 'a pack is shorter than it should be')
  }
  return bytes
}
function parseAbout(text, path) {
  try {
    const about = JSON.parse(text)
    if (about.v === 1 && [...about.tags, ...about.paths, about.source, about.host].every((text) => typeof text === 'string')) return about
  } catch {
    throw new Damage(`the private part of ${path} is not JSON`)
  }
  throw new Damage(`the private part of ${path} is of another version, or not whole`)
}
function* placesIn({ blobs, segments }, id, kind) {
  let [low, high] = [0, blobs.length / 44]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (blobs.compare(id, 0, 32, middle * 44, middle * 44 + 32) < 0) low = middle + 1
    else high = middle
  }
  for (let at = low * 44; at < blobs.length && blobs.compare(id, 0, 32, at, at + 32) === 0; at += 44) {
    const segment = segments[blobs.readUInt32LE(at + 32)]
    if (segment.kind === kind) yield { segment, from: blobs.readUInt32LE(at + 36), length: blobs.readUInt32LE(at + 40) }
  }
}
/** An entry of a directory (section 8); without a node it is a root entry, which has no references. */
function readEntry(c, node) {
  const e = { name: Buffer.from(c.bytes(255)), kind: c.u8(), flags: c.u16(), mode: c.u16(), uid: c.varint(), gid: c.varint() }
  Object.assign(e, { seconds: c.svarint64(), nanoseconds: c.varint(999999999) })
  const name = e.name.toString('latin1')
  must(name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name), `${c.what} has an entry whose name is no name`)
  must(node || e.kind === 2, `${c.what} is no directory`)
  const allowed = e.kind === 1 ? 63 : e.kind === 2 ? 98 : 35
  must(
    e.kind >= 1 && e.kind <= 6 && (e.flags & ~allowed) === 0 && (e.flags & 24) !== 24 && e.mode <= 0o7777,
    `${c.what} has an entry of an unknown kind, flag or mode`,
  )
  if (e.kind === 1) e.size = c.varint()
  if (e.kind === 2 && node) e.child = node.node()
  if (e.kind === 3) e.target = Buffer.from(c.bytes(4095))
  must(!e.target || (e.target.length > 0 && !e.target.includes(0)), `${c.what} has a symlink that leads nowhere`)
  if (e.kind >= 5) e.device = [c.varint(2 ** 32 - 1), c.varint(2 ** 32 - 1)]
  if (e.flags & 1) e.linked = `${c.varint64()} ${c.varint64()}`
  if (e.flags & 2) e.attributes = c.list(c.varint(1024), 2, () => ({ name: Buffer.from(c.bytes(255)), value: Buffer.from(c.bytes(65536)) }))
  for (const [i, { name }] of (e.attributes ?? []).entries()) {
    must(
      name.length > 0 && !name.includes(0) && (i === 0 || e.attributes[i - 1].name.compare(name) < 0),
      `${c.what} has attributes out of order`,
    )
  }
  if (e.kind !== 1) return e
  let [end, length] = [0, e.size]
  e.extents = [[0, e.size]]
  if (e.flags & 4) {
    e.extents = c.list(c.varint(4096), 2, () => {
      const [from, length] = [end + c.varint(), c.varint()]
      end = from + length
      return [from, length]
    })
    length = e.extents.reduce((sum, extent) => sum + extent[1], 0)
    must(end <= e.size, `${c.what} has a file whose content is longer than its size`)
  }
  e.length = length
  if (e.flags & 8) e.inline = Buffer.from(c.bytes(256))
  else if (e.flags & 16) e.list = node.node()
  else e.chunks = node.chunks(c.varint(65536))
  return e
}

// ---- Restoring ----
const show = (bytes) =>
  bytes.toString().replace(/[^\x20-\x7e\u00a1-\u1fff\u2c00-\ud7ff\uf900-\ufffc]/g, (ch) => `\\u{${ch.codePointAt(0).toString(16)}}`)
const xargs = (items, ...command) =>
  spawnSync('xargs', ['-0', ...command], { input: Buffer.concat(items.flatMap((item) => [bytesOf(item), Buffer.alloc(1)])) })
const quote = (bytes, also) => bytes.toString('latin1').replace(also, (ch) => `\\${ch.charCodeAt(0).toString(8).padStart(3, '0')}`)
/** Restores a snapshot into a fresh target. missed(path, why) is told what could not be restored, damage(text) what is damaged. */
export function restore(repository, snapshot, target, { exactTimes, missed, damage }) {
  const at = fs.lstatSync(target, { throwIfNoEntry: false })
  if (at && (!at.isDirectory() || fs.readdirSync(target).length > 0)) throw new Stop(1, `${target} is there and not an empty directory`)
  if (!at) fs.mkdirSync(target, { recursive: true, mode: 0o700 })
  const [made, files, special, links, exact] = [[], [], [], [], []] // made: [path, entry] of all that stands, parents first
  const first = new Map() // what every pair of volume and inode is a link of
  const done = new Set()
  /** Runs one step for a path; damage and refusals of the system are told, and end that step alone. */
  const step = (path, run) => {
    try {
      run()
      return true
    } catch (error) {
      if (!(error instanceof Damage) && (!error.syscall || error.code === 'ENOSPC')) throw error
      if (error instanceof Damage) damage(`${show(path)}: ${error.message}`)
      else missed(path, error.message)
      return false
    }
  }
  const stand = (path, entry) => done.add(made[made.push([path, entry]) - 1][1])
  const make = (path, entry) => {
    if (entry.kind === 1) writeFile(path, entry)
    else if (entry.kind === 3) fs.symlinkSync(entry.target, path)
    else return special.push([path, entry])
    return stand(path, entry)
  }
  const writeFile = (path, entry) => {
    const fd = fs.openSync(path, 'wx', 0o600)
    try {
      let [total, extent, from, left] = [0, -1, 0, 0]
      for (const chunk of repository.content(entry, entry.length)) {
        must((total += chunk.length) <= entry.length, 'the content is longer than the file')
        for (let done = 0; done < chunk.length;) {
          while (left === 0) [from, left] = entry.extents[++extent]
          const n = fs.writeSync(fd, chunk, done, Math.min(left, chunk.length - done), from)
          done += n
          from += n
          left -= n
        }
      }
      must(total === entry.length, 'the content is shorter than the file')
      fs.ftruncateSync(fd, entry.size)
    } catch (error) {
      fs.unlinkSync(path)
      throw error
    } finally {
      fs.closeSync(fd)
    }
  }
  // The tree first: directories and symlinks are made, all else is noted.
  const top = Buffer.from(target)
  const rootEntry = snapshot.about.root ? rootOf(String(snapshot.about.root)) : null
  if (rootEntry && !(at && rootEntry.flags & 64)) made.push([top, rootEntry])
  for (const queue = [[top, snapshot.tree, 0]]; queue.length > 0;) {
    const [directory, tree, depth] = queue.pop()
    step(directory, () => {
      must(depth < 4096, 'directories are too deep')
      for (const entry of repository.entries(tree)) {
        const path = cat(directory, '/', entry.name)
        const known = entry.linked && first.get(entry.linked)
        if (entry.kind === 2)
          step(path, () => fs.mkdirSync(path, 0o700) ?? (stand(path, entry), queue.push([path, entry.child, depth + 1])))
        else if (known) links.push([path, entry, known])
        else if (entry.kind === 1) files.push([path, entry])
        else step(path, () => make(path, entry))
        if (entry.linked && !known) first.set(entry.linked, [path, entry])
      }
    })
  }
  // Files in the order in which their first chunks stand in the packs, so that every segment is opened about once.
  const order = files.map(([path, entry]) => {
    const place = entry.chunks?.length > 0 ? repository.places(entry.chunks.subarray(1, 33), CHUNK_SEGMENT).next().value : null
    return { path, entry, pack: place?.segment.pack.name ?? '', offset: place?.segment.offset ?? 0, from: place?.from ?? 0 }
  })
  order.sort((a, b) => (a.pack < b.pack ? -1 : a.pack > b.pack ? 1 : a.offset - b.offset || a.from - b.from))
  for (const { path, entry } of order) step(path, () => make(path, entry))
  const makeSpecial = () => {
    const fifos = special.filter(([, entry]) => entry.kind === 4).map(([path]) => path)
    const nodes = special
      .filter(([, entry]) => entry.kind > 4)
      .map(([path, e]) => [path, e.kind === 5 ? 'c' : 'b', ...e.device.map(String)])
    if (fifos.length > 0) xargs(fifos, 'mkfifo', '-m', '600', '--')
    if (nodes.length > 0) xargs(nodes.flat(), '-n', '4', 'mknod', '-m', '600', '--')
    for (const [path, entry] of special.splice(0)) {
      if (fs.lstatSync(path, { throwIfNoEntry: false })) stand(path, entry)
      else missed(path, 'the device or FIFO could not be made')
    }
  }
  makeSpecial()
  for (const [path, entry, known] of links) {
    step(path, () => {
      must(known[1].kind === entry.kind && known[1].size === entry.size, 'is a hard link of another kind of thing')
      if (done.has(known[1])) return fs.linkSync(known[0], path)
      make(path, entry)
      ;[known[0], known[1]] = [path, entry]
    })
    makeSpecial()
  }
  // Owners, then attributes (a change of owner drops some), then modes and times, the deepest first.
  for (const [path, entry] of made) step(path, () => fs.lchownSync(path, entry.uid, entry.gid))
  const stanzas = made
    .filter(([, entry]) => entry.attributes?.length > 0)
    .map(([path, entry]) => {
      const lines = entry.attributes.map(({ name, value }) => `${quote(name, /[\\=\n\r]/g)}=0s${value.toString('base64')}\n`)
      return Buffer.from(`# file: ${quote(path, /[\\\n\r]/g)}\n${lines.join('')}\n`, 'latin1')
    })
  if (stanzas.length > 0) {
    const run = spawnSync('setfattr', ['-h', '--restore=-'], { input: Buffer.concat(stanzas), maxBuffer: 64 * MIB })
    if (run.error) missed(top, `extended attributes of ${stanzas.length} entries: ${run.error.message}`)
    else if (run.status !== 0) for (const line of run.stderr.toString().trim().split('\n')) missed(top, `an extended attribute: ${line}`)
  }
  for (const [path, entry] of made.reverse()) {
    step(path, () => {
      if (entry.kind !== 3) fs.chmodSync(path, entry.mode)
      const ns = entry.seconds * 1000000000n + BigInt(entry.nanoseconds)
      const time = Number(entry.seconds) + entry.nanoseconds / 1e9
      if (ns >= 0n && !exactTimes) return fs.lutimesSync(path, time, time) // Node takes a negative time for now
      const [whole, part] = [(ns < 0n ? -ns : ns) / 1000000000n, (ns < 0n ? -ns : ns) % 1000000000n]
      exact.push('-d', `@${ns < 0n ? '-' : ''}${whole}.${String(part).padStart(9, '0')}`, path)
    })
  }
  if (exact.length > 0 && xargs(exact, '-n', '3', 'touch', '-h').status !== 0) missed(top, 'some times could not be set with touch')
  return done.size
}
function rootOf(base64) {
  const c = new Cursor(Buffer.from(base64, 'base64'), 'the root entry')
  const entry = readEntry(c, null)
  c.end()
  return entry
}

// ---- The command ----
function main(argv, environment) {
  const words = argv.filter((word, i) => !word.startsWith('--') && argv[i - 1] !== '--keys')
  const [list, exactTimes, keys] = [argv.includes('--list'), argv.includes('--exact-times'), argv.indexOf('--keys')]
  const unknown = argv.find((word) => word.startsWith('--') && !['--list', '--exact-times', '--keys'].includes(word))
  const { HOLDFAST_RECOVERY_CODE: codeText, HOLDFAST_PASSWORD: password } = environment
  if (
    unknown ||
    (list ? words.length !== 1 : words.length < 2 || words.length > 3) ||
    (keys >= 0 && !argv[keys + 1]) ||
    (!codeText && !password)
  ) {
    throw new Stop(
      2,
      'usage: node holdfast-reader.mjs REPOSITORY-DIR [SNAPSHOT|latest] TARGET-DIR [--keys DIR] [--exact-times], or REPOSITORY-DIR --list;\nset HOLDFAST_RECOVERY_CODE or HOLDFAST_PASSWORD',
    )
  }
  const code = codeText && recoveryCode(codeText)
  if (codeText && !code && !password)
    throw new Stop(12, 'this is not a recovery code: 36 letters and digits, of which the last four check the others')
  let [damages, misses] = [0, 0]
  const told = new Set()
  const report = (text, kind = 'damage') => {
    if (told.size === told.add(`${kind}: ${text}`).size) return
    damages += kind === 'damage' ? 1 : 0
    console.error(`${kind}: ${text}`)
  }
  const repository = new Repository(words[0], { code, password, report, keysDirectory: keys >= 0 ? argv[keys + 1] : undefined })
  const wanted = words.length === 3 ? words[1] : 'latest'
  const names = repository.names('snapshots', PAIR).filter((name) => list || wanted === 'latest' || name.slice(-32).startsWith(wanted))
  const snapshots = repository.each(names, (name) => repository.readSnapshot(name)).sort((a, b) => a.ended - b.ended)
  if (list) {
    for (const s of snapshots) {
      const paths = s.about.paths.map((path) => show(Buffer.from(path, 'base64'))).join(' ')
      console.log(
        `${s.id}  ${new Date(s.ended).toISOString()}  ${show(s.about.host)}  ${show(s.about.source)}  ${s.files} files  ${s.bytes} bytes  ${paths}`,
      )
    }
    return damages > 0 ? 4 : 0
  }
  if (wanted !== 'latest' && names.length > 1) throw new Stop(1, `${wanted} begins the ids of ${names.length} snapshots`)
  if (snapshots.length === 0) throw new Stop(damages > 0 ? 4 : 1, `there is no such snapshot: ${show(wanted)}`)
  const snapshot = snapshots.at(-1)
  const missed = (path, why) => {
    misses++
    console.error(`not restored: ${show(path)}: ${why}`)
  }
  for (const { path, code } of snapshot.about.problems ?? [])
    console.error(`note: the backup had a problem: ${show(Buffer.from(path, 'base64'))}: ${show(String(code))}`)
  const count = restore(repository, snapshot, resolve(words.at(-1)), { exactTimes, missed, damage: report })
  console.log(`restored ${count} entries of snapshot ${snapshot.id}; ${misses} not restored; ${damages} damaged`)
  return damages > 0 ? 4 : misses > 0 ? 3 : 0
}
if (import.meta.main) {
  try {
    process.exitCode = main(process.argv.slice(2), process.env)
  } catch (error) {
    if (!(error instanceof Stop) && !(error instanceof Damage) && !error.syscall) throw error
    console.error(`holdfast-reader: ${error.message}`)
    process.exitCode = error.code > 0 ? error.code : error instanceof Damage ? 4 : 1
  }
}

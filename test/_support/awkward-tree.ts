// Builds a directory tree out of everything that backup programs are known to lose. The same seed makes the same tree.
// What this user or file system cannot have is left out and named in the result.
import { CWD, FileError, type Descriptor, type FileSystem } from '../../agent/file-system/file-system.ts'
import { posixFileSystem } from '../../agent/file-system/posix-file-system.ts'

export type AwkwardTreeOptions = {
  readonly seed?: number | undefined
  /** Ordinary small files and directories beside the awkward ones. */
  readonly ordinary?: number | undefined
  /** Devices, foreign owners, trusted and security attributes; default: whether this process is root. */
  readonly root?: boolean | undefined
  /** Size of the file that is one hole; default 5 GiB, which a reader of holes as data takes long over. */
  readonly hugeHoleBytes?: number | undefined
  /** Also a sparse file with data on both sides of 4 GiB; default false, because the oracle then hashes 4 GiB. */
  readonly beyond4Gib?: boolean | undefined
  /** Length in bytes of the deepest relative path; default 3,900, the most that tools which name whole paths can reach. */
  readonly deepestPathBytes?: number | undefined
  /** Also every byte value in names, including those that no terminal likes; default true. */
  readonly allNameBytes?: boolean | undefined
}

export type AwkwardTree = {
  readonly entries: number
  /** What could not be made, as `what: errno`. */
  readonly leftOut: readonly string[]
}

const KIB = 1024
const MIB = 1024 * KIB
/** Sizes around every limit of the format: in the tree itself, smallest chunk, mean chunk, largest chunk. */
export const BOUNDARY_SIZES: readonly number[] = [
  0,
  1,
  255,
  256,
  257,
  4095,
  4096,
  4097,
  512 * KIB - 1,
  512 * KIB,
  512 * KIB + 1,
  MIB - 1,
  MIB,
  MIB + 1,
  4 * MIB - 1,
  4 * MIB,
  4 * MIB + 1,
]
/** Seconds and nanoseconds that single tools have clamped, rounded or refused; all within what ext4 can hold. */
export const AWKWARD_TIMES: readonly bigint[] = [
  0n,
  1n,
  -1n,
  123_456_789n,
  -123_456_789n,
  // One second above the least: at the least and the largest second the kernel drops the nanoseconds.
  -2_147_483_646_999_999_999n,
  2_147_483_647_999_999_999n,
  2_147_483_648_000_000_000n,
  4_294_967_296_000_000_001n,
  7_258_118_400_987_654_321n,
  9_223_372_036_854_775_807n,
  13_569_465_600_000_000_007n,
]

/** A small generator of reproducible numbers (mulberry32). */
export function seededNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return (t ^ (t >>> 14)) >>> 0
  }
}

/** Fills the existing, empty directory. Returns when everything is made; modes that forbid entry are set last. */
export function buildAwkwardTree(directory: string, options: AwkwardTreeOptions = {}): AwkwardTree {
  const builder = new Builder(posixFileSystem, options)
  const top = posixFileSystem.open(CWD, Buffer.from(directory), 'directory-follow')
  try {
    return builder.build(top)
  } finally {
    posixFileSystem.close(top)
  }
}

type Made = { at: Descriptor; name: Buffer }

class Builder {
  readonly #fs: FileSystem
  readonly #options: AwkwardTreeOptions
  readonly #next: () => number
  readonly #root: boolean
  readonly #leftOut: string[] = []
  #entries = 0

  constructor(fs: FileSystem, options: AwkwardTreeOptions) {
    this.#fs = fs
    this.#options = options
    this.#next = seededNumbers(options.seed ?? 1)
    this.#root = options.root ?? process.getuid?.() === 0
  }

  build(top: Descriptor): AwkwardTree {
    const sections: [string, (at: Descriptor) => void][] = [
      ['ordinary', (at) => this.#ordinary(at, this.#options.ordinary ?? 200)],
      ['names', (at) => this.#names(at)],
      ['sizes', (at) => this.#sizes(at)],
      ['holes', (at) => this.#holes(at)],
      ['links', (at) => this.#links(at)],
      ['nodes', (at) => this.#nodes(at)],
      ['attributes', (at) => this.#attributes(at)],
      ['deep', (at) => this.#deep(at, this.#options.deepestPathBytes ?? 3900)],
      ['modes', (at) => this.#modes(at)],
      ['times', (at) => this.#times(at)],
    ]
    for (const [name, fill] of sections) this.#inDirectory(top, name, fill)
    // A time in the past on every section, so that a copy that forgets times of directories shows.
    for (const [index, [name]] of sections.entries()) this.#fs.setTimes(top, Buffer.from(name), 1_000_000_000_000_000_000n + BigInt(index))
    return { entries: this.#entries, leftOut: this.#leftOut }
  }

  #inDirectory(at: Descriptor, name: string | Buffer, fill: (at: Descriptor) => void): void {
    const bytes = typeof name === 'string' ? Buffer.from(name) : name
    this.#fs.makeDirectory(at, bytes, 0o755)
    this.#entries++
    const inside = this.#fs.open(at, bytes, 'directory')
    try {
      fill(inside)
    } finally {
      this.#fs.close(inside)
    }
  }

  #file(at: Descriptor, name: string | Buffer, content: Uint8Array | string): Made {
    const bytes = typeof name === 'string' ? Buffer.from(name) : name
    const fd = this.#fs.open(at, bytes, 'create')
    try {
      this.#fs.write(fd, typeof content === 'string' ? Buffer.from(content) : content, null)
    } finally {
      this.#fs.close(fd)
    }
    this.#entries++
    return { at, name: bytes }
  }

  /** Does what may be refused here; the refusal is noted, anything else is an error. */
  #attempt(what: string, act: () => void): void {
    try {
      act()
    } catch (error) {
      const refusals = ['ENOTSUP', 'EPERM', 'EINVAL', 'EFBIG', 'ENAMETOOLONG', 'EILSEQ', 'ENOSPC', 'E2BIG', 'EACCES']
      if (!(error instanceof FileError) || !refusals.includes(error.errno)) throw error
      this.#leftOut.push(`${what}: ${error.errno}`)
    }
  }

  #bytes(length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length)
    let i = 0
    for (; i + 4 <= length; i += 4) bytes.writeUInt32LE(this.#next(), i)
    for (; i < length; i++) bytes[i] = this.#next() & 0xff
    return bytes
  }

  #ordinary(at: Descriptor, count: number): void {
    const inEach = 50
    for (let directory = 0; directory * inEach < count; directory++) {
      this.#inDirectory(at, `directory-${directory}`, (inside) => {
        for (let i = 0; i < inEach && directory * inEach + i < count; i++) {
          const length = this.#next() % 3000
          this.#file(inside, `file-${i}.txt`, i % 2 === 0 ? this.#bytes(length) : 'words and more words\n'.repeat(length / 20))
          if (i % 7 === 0) this.#fs.setTimes(inside, Buffer.from(`file-${i}.txt`), BigInt(this.#next()) * 1_000_000_000n + BigInt(i))
        }
      })
    }
  }

  #names(at: Descriptor): void {
    const awkward = [
      'line\nbreak',
      'tab\there',
      '\u001b[31mred\u001b[0m',
      ' leading',
      'trailing ',
      'dot.',
      '...',
      '-rf',
      '--help',
      '*',
      '?',
      '[a]',
      '"',
      "'",
      '`id`',
      '$HOME',
      'a\\b',
      'a:b',
      'CON',
      'nul',
      'é',
      'e\u0301',
      'Case',
      'case',
      '\ufeffbom',
      '\u202egnp.exe',
      '日本語',
      '🗄️',
      '~',
      '#x',
      '%41',
      '=0x00',
      '.hidden',
      'x'.repeat(255),
    ]
    for (const name of awkward) this.#file(at, name, `named ${name}`)
    for (const hex of ['ff', 'c328', 'eda080', 'f8a1a1a1a1', '80', '61ff62', 'c0af', 'fe']) {
      this.#attempt(`name ${hex}`, () => this.#file(at, Buffer.from(hex, 'hex'), hex))
    }
    this.#attempt('directory of a name that is not UTF-8', () =>
      this.#inDirectory(at, Buffer.from('64ff2064', 'hex'), (inside) => {
        this.#file(inside, Buffer.from('eb', 'hex'), 'latin1')
        this.#fs.makeSymlink(inside, Buffer.from('link-ff'), Buffer.from('ff80eb', 'hex'))
        this.#entries++
      }),
    )
    this.#attempt('name of 255 bytes 0xff', () => this.#file(at, Buffer.alloc(255, 0xff), 'long'))
    if (this.#options.allNameBytes === false) return
    for (let byte = 1; byte < 256; byte++) {
      if (byte !== 0x2f) this.#attempt(`name with byte ${byte}`, () => this.#file(at, Buffer.from([0x62, byte]), ''))
    }
  }

  #sizes(at: Descriptor): void {
    for (const size of BOUNDARY_SIZES) this.#file(at, `random-${size}`, this.#bytes(size))
    for (const size of [256, 4096, MIB + 1]) this.#file(at, `zeros-${size}`, Buffer.alloc(size))
    const runs = this.#bytes(3 * MIB)
    runs.fill(0, 100 * KIB, 100 * KIB + 70_000)
    runs.fill(0, MIB, 2 * MIB + 17)
    this.#file(at, 'zero-runs', runs)
    this.#file(at, 'same-as-zero-runs', runs)
    this.#inDirectory(at, 'empty', () => undefined)
  }

  #holes(at: Descriptor): void {
    const sparse = (name: string, size: number, pieces: readonly [offset: number, length: number][]): void =>
      this.#attempt(`sparse file ${name}`, () => {
        this.#file(at, name, '')
        const fd = this.#fs.open(at, Buffer.from(name), 'update')
        try {
          for (const [offset, length] of pieces) this.#fs.write(fd, this.#bytes(length), offset)
          this.#fs.truncate(fd, size)
        } finally {
          this.#fs.close(fd)
        }
      })
    sparse('leading', 9 * MIB, [[8 * MIB, MIB]])
    sparse('middle', 6 * MIB, [
      [0, 4096],
      [5 * MIB, MIB],
    ])
    sparse('trailing', 7 * MIB, [[0, 100]])
    sparse('all-small', 4096, [])
    sparse('odd-end', 3 * MIB + 777, [[MIB + 4096, 5000]])
    sparse(
      'many',
      8 * MIB,
      Array.from({ length: 64 }, (_, i) => [i * 128 * KIB + 4096, 4096]),
    )
    sparse('all-huge', this.#options.hugeHoleBytes ?? 5 * 1024 * MIB, [])
    if (this.#options.beyond4Gib === true) sparse('beyond-4-gib', 4 * 1024 * MIB + 8192, [[4 * 1024 * MIB - 4096, 8192]])
  }

  #links(at: Descriptor): void {
    const fs = this.#fs
    const name = Buffer.from
    this.#file(at, 'linked-1', this.#bytes(5000))
    for (const other of ['linked-2', 'linked-3']) fs.makeHardLink(at, name('linked-1'), at, name(other))
    this.#file(at, 'empty-linked-1', '')
    fs.makeHardLink(at, name('empty-linked-1'), at, name('empty-linked-2'))
    this.#entries += 3
    this.#inDirectory(at, 'elsewhere', (inside) => {
      fs.makeHardLink(at, name('linked-1'), inside, name('linked-4'))
      this.#entries++
    })
    const targets = {
      plain: 'linked-1',
      dangling: 'nothing/here',
      loop: 'loop',
      up: '../../..',
      absolute: '/etc/hostname',
      long: 'a/'.repeat(2000),
      newline: 'a\nb',
    }
    for (const [link, target] of Object.entries(targets)) fs.makeSymlink(at, name(`symlink-${link}`), name(target))
    this.#entries += Object.keys(targets).length
    fs.setTimes(at, name('symlink-plain'), -7n)
    this.#attempt('hard link of a symbolic link', () => {
      fs.makeHardLink(at, name('symlink-dangling'), at, name('symlink-dangling-again'))
      this.#entries++
    })
    if (this.#root) fs.setOwner(at, name('symlink-dangling'), 1234, 4321)
  }

  #nodes(at: Descriptor): void {
    const fs = this.#fs
    const node = (name: string, kind: 'fifo' | 'socket' | 'character-device' | 'block-device', major: number, minor: number): void =>
      this.#attempt(`${kind} ${name}`, () => {
        fs.makeNode(at, Buffer.from(name), { kind, mode: 0o640, major, minor })
        fs.setTimes(at, Buffer.from(name), 1_234_567_890_123_456_789n)
        this.#entries++
      })
    node('fifo', 'fifo', 0, 0)
    node('socket', 'socket', 0, 0)
    this.#attempt('hard link of a fifo', () => {
      fs.makeHardLink(at, Buffer.from('fifo'), at, Buffer.from('fifo-again'))
      this.#entries++
    })
    if (!this.#root) return
    node('null', 'character-device', 1, 3)
    node('large-numbers', 'character-device', 4095, 1_048_575)
    node('minor-256', 'character-device', 10, 256)
    node('loop', 'block-device', 7, 300)
  }

  #attributes(at: Descriptor): void {
    const fs = this.#fs
    const set = (what: Made, attribute: string | Buffer, value: Buffer): void =>
      this.#attempt(`attribute ${String(attribute)}`, () => fs.setAttribute(what.at, what.name, Buffer.from(attribute), value))
    const file = this.#file(at, 'with-user', 'content')
    set(file, 'user.text', Buffer.from('value'))
    set(file, 'user.empty', Buffer.alloc(0))
    set(file, 'user.bytes', Buffer.from(Array.from({ length: 256 }, (_, i) => i)))
    set(file, 'user.odd =#\\name', Buffer.from('odd'))
    set(file, Buffer.concat([Buffer.from('user.'), Buffer.from([0xff, 0xfe])]), Buffer.from('not UTF-8'))
    set(this.#file(at, 'with-large', ''), 'user.large', this.#bytes(3000))
    const acl = this.#file(at, 'with-acl', 'acl')
    set(acl, 'system.posix_acl_access', posixAcl([1, 6], [2, 4, 1001], [4, 4], [8, 6, 1002], [16, 6], [32, 0]))
    this.#inDirectory(at, 'directory', (inside) => {
      this.#file(inside, 'below', 'below')
    })
    const directory = { at, name: Buffer.from('directory') }
    set(directory, 'user.on-directory', Buffer.from('d'))
    set(directory, 'system.posix_acl_default', posixAcl([1, 7], [2, 5, 1001], [4, 5], [16, 7], [32, 0]))
    set(directory, 'system.posix_acl_access', posixAcl([1, 7], [2, 7, 1003], [4, 5], [16, 7], [32, 5]))
    if (!this.#root) return
    fs.makeSymlink(at, Buffer.from('symlink'), Buffer.from('with-user'))
    fs.makeNode(at, Buffer.from('fifo'), { kind: 'fifo', mode: 0o600, major: 0, minor: 0 })
    this.#entries += 2
    for (const name of ['symlink', 'fifo', 'with-user', 'directory']) {
      set({ at, name: Buffer.from(name) }, 'trusted.kept', Buffer.from(`trusted ${name}`))
      set({ at, name: Buffer.from(name) }, 'security.kept', Buffer.from(`security ${name}`))
    }
    // cap_net_raw+ep, revision 2.
    set(
      this.#file(at, 'with-capability', '#!/bin/sh\n'),
      'security.capability',
      Buffer.from('0100000200200000000000000000000000000000', 'hex'),
    )
  }

  #deep(at: Descriptor, deepest: number): void {
    const step = Buffer.from('d'.repeat(99))
    let inside = at
    let length = 'deep'.length
    const opened: Descriptor[] = []
    try {
      while (length + 1 + step.length + 12 <= deepest) {
        this.#fs.makeDirectory(inside, step, 0o755)
        inside = this.#fs.open(inside, step, 'directory')
        opened.push(inside)
        length += 1 + step.length
        this.#entries++
      }
      this.#file(inside, 'bottom', 'far down')
      this.#attempt('attribute far down', () =>
        this.#fs.setAttribute(inside, Buffer.from('bottom'), Buffer.from('user.bottom'), Buffer.from('deep')),
      )
      this.#fs.setTimes(inside, Buffer.from('bottom'), -3n)
    } finally {
      for (const fd of opened) this.#fs.close(fd)
    }
    // Many short steps too.
    let short = at
    for (let i = 0; i < 300; i++) {
      this.#fs.makeDirectory(short, Buffer.from('s'), 0o755)
      const down = this.#fs.open(short, Buffer.from('s'), 'directory')
      if (short !== at) this.#fs.close(short)
      short = down
      this.#entries++
    }
    this.#fs.close(short)
  }

  #modes(at: Descriptor): void {
    const fs = this.#fs
    for (const mode of [0o000, 0o400, 0o200, 0o001, 0o600, 0o666, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777]) {
      const file = this.#file(at, `file-${mode.toString(8)}`, `mode ${mode.toString(8)}`)
      if (this.#root && mode % 2 === 1) fs.setOwner(at, file.name, 1000 + mode, 2000 + mode)
      fs.setMode(at, file.name, mode)
    }
    for (const mode of [0o555, 0o500, 0o1777, 0o2775, 0o700]) {
      const name = `directory-${mode.toString(8)}`
      this.#inDirectory(at, name, (inside) => {
        this.#file(inside, 'inside', name)
      })
      fs.setMode(at, Buffer.from(name), mode)
    }
    if (this.#root) {
      const large = this.#file(at, 'largest-ids', 'ids')
      fs.setOwner(at, large.name, 0xfffffffe, 0xfffffffd)
    }
  }

  #times(at: Descriptor): void {
    for (const [index, time] of AWKWARD_TIMES.entries()) {
      const file = this.#file(at, `file-${index}`, String(time))
      this.#fs.makeSymlink(at, Buffer.from(`symlink-${index}`), Buffer.from('gone'))
      this.#inDirectory(at, `directory-${index}`, () => undefined)
      this.#entries++
      for (const name of [file.name, Buffer.from(`symlink-${index}`), Buffer.from(`directory-${index}`)]) {
        this.#attempt(`time ${time}`, () => this.#fs.setTimes(at, name, time))
      }
    }
  }
}

/** The binary form of a POSIX ACL (version 2): entries of tag, permissions and, for named users and groups, an id; in the order given. */
export function posixAcl(...entries: readonly (readonly [tag: number, permissions: number, id?: number])[]): Buffer {
  const bytes = Buffer.alloc(4 + 8 * entries.length)
  bytes.writeUInt32LE(2, 0)
  for (const [i, [tag, permissions, id]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + 8 * i)
    bytes.writeUInt16LE(permissions, 6 + 8 * i)
    bytes.writeUInt32LE(id ?? 0xffffffff, 8 + 8 * i)
  }
  return bytes
}

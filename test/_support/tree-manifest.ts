// The independent oracle for fidelity: what a directory holds, as find, sha256sum, stat and getfattr report it. It shares no code with the
// product, so that a mistake made both when reading and when writing still shows. Names are kept as latin1 strings, one character per
// byte; every list passes through NUL-ended input and output, so newlines and bytes that are not UTF-8 survive.
// Needs GNU findutils and coreutils, and `getfattr` (Debian: attr) for extended attributes and ACLs.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'

export type ManifestEntry = {
  /** Relative to the directory, latin1; empty for the directory itself. */
  readonly path: string
  /** As find's %y: f d l p s c b. */
  readonly kind: string
  readonly mode: string
  readonly owner: string
  readonly size: number
  /** Seconds and fraction as find prints them. */
  readonly mtime: string
  /** Latin1; empty for anything but a symbolic link. */
  readonly linkTarget: string
  /** First path of the group of names that share one inode; empty where there is one name only. */
  readonly hardLinkGroup: string
  /** 512-byte blocks in use. */
  readonly blocks: number
  /** SHA-256 of the content of a file; `holes:SIZE` for a large file without a single block; `unreadable` (never as root). */
  readonly content: string
  /** `name=0xhex` lines, sorted. */
  readonly attributes: readonly string[]
  /** Major and minor number in hex, for devices. */
  readonly rdev: string
}

export type CompareOptions = {
  /** Also compare allocated blocks of files, which may differ by this many 512-byte blocks. */
  readonly holesWithinBlocks?: number | undefined
  /** Compare mode, owner, time and attributes of the top directory too. */
  readonly top?: boolean | undefined
  /** Entries to leave out on both sides, e.g. sockets. */
  readonly skip?: ((entry: ManifestEntry) => boolean) | undefined
}

/** False where extended attributes cannot be seen on this machine: then two trees compare equal whatever theirs are, and a test must say so. */
export const seesAttributes: boolean = existsSync('/usr/bin/getfattr') || existsSync('/bin/getfattr')

const FIELDS = ['%P', '%y', '%m', '%U:%G', '%s', '%T@', '%l', '%n', '%D:%i', '%b']
/** Above this a relative path is no longer passed to a tool whole; the shell goes down to it step by step. */
const LONG_PATH = 3500
/** A file this large without a block is not read: hashing 5 GiB of nothing takes a quarter of a minute. */
const LARGE = 64 * 1024 * 1024
const asRoot = process.getuid?.() === 0

/** A file whose content is hashed; see LARGE. */
function isRead(row: readonly string[]): boolean {
  return at(row, 1) === 'f' && !(Number(at(row, 4)) >= LARGE && at(row, 9) === '0')
}

/** Everything under `directory`, by path in byte order. */
export async function treeManifest(directory: string): Promise<Map<string, ManifestEntry>> {
  const found = (await run('find', ['.', '-printf', FIELDS.join('\\0') + '\\0'], directory, '')).split('\0')
  if (found.pop() !== '' || found.length % FIELDS.length !== 0) throw new Error('find printed something that is not a list of entries')
  const rows: string[][] = []
  for (let i = 0; i < found.length; i += FIELDS.length) rows.push(found.slice(i, i + FIELDS.length))
  rows.sort((a, b) => (at(a, 0) < at(b, 0) ? -1 : 1))

  const paths = (wanted: (row: string[]) => boolean): string[] => rows.filter(wanted).map((row) => `./${at(row, 0)}`)
  const hashes = await sha256(directory, paths(isRead))
  const devices = await deviceNumbers(
    directory,
    paths((row) => at(row, 1) === 'c' || at(row, 1) === 'b'),
  )
  const attributes = seesAttributes
    ? await attributesOf(
        directory,
        paths(() => true),
      )
    : new Map<string, string[]>()

  const groups = new Map<string, string[]>()
  for (const row of rows)
    if (at(row, 1) !== 'd' && Number(at(row, 7)) > 1) groups.set(at(row, 8), [...(groups.get(at(row, 8)) ?? []), at(row, 0)])
  const entries = new Map<string, ManifestEntry>()
  for (const row of rows) {
    const [path, kind] = [at(row, 0), at(row, 1)]
    const group = groups.get(at(row, 8)) ?? []
    const content = kind !== 'f' ? '' : isRead(row) ? (hashes.get(`./${path}`) ?? 'unreadable') : `holes:${at(row, 4)}`
    if (content === 'unreadable' && asRoot) throw new Error(`sha256sum said nothing about ${shown(path)}`)
    entries.set(path, {
      path,
      kind,
      mode: at(row, 2),
      owner: at(row, 3),
      size: Number(at(row, 4)),
      mtime: at(row, 5),
      linkTarget: at(row, 6),
      hardLinkGroup: kind !== 'd' && group.length > 1 ? (group[0] ?? '') : '',
      blocks: Number(at(row, 9)),
      content,
      attributes: attributes.get(`./${path}`) ?? [],
      rdev: devices.get(`./${path}`) ?? '',
    })
  }
  return entries
}

/** Every difference between two directories, one line each, names printable; empty where they are the same. */
export async function compareTrees(a: string, b: string, options: CompareOptions = {}): Promise<string[]> {
  return compareManifests(await treeManifest(a), await treeManifest(b), options)
}

export function compareManifests(
  a: ReadonlyMap<string, ManifestEntry>,
  b: ReadonlyMap<string, ManifestEntry>,
  options: CompareOptions = {},
): string[] {
  const differences: string[] = []
  const left = (entry: ManifestEntry | undefined): boolean =>
    entry === undefined || (entry.path === '' && options.top !== true) || options.skip?.(entry) === true
  for (const [path, one] of a) {
    const other = b.get(path)
    if (left(one)) continue
    if (other === undefined) {
      differences.push(`${shown(path)}: missing`)
      continue
    }
    const say = (what: string, x: string | number, y: string | number): void => {
      if (x !== y) differences.push(`${shown(path)}: ${what} ${shown(String(x))} became ${shown(String(y))}`)
    }
    say('kind', one.kind, other.kind)
    say('mode', one.mode, other.mode)
    say('owner', one.owner, other.owner)
    say('mtime', one.mtime, other.mtime)
    say('link target', one.linkTarget, other.linkTarget)
    say('hard-link group', one.hardLinkGroup, other.hardLinkGroup)
    say('device number', one.rdev, other.rdev)
    say('attributes', one.attributes.join(' '), other.attributes.join(' '))
    if (one.kind !== 'f' || other.kind !== 'f') continue
    say('size', one.size, other.size)
    say('content', one.content, other.content)
    const within = options.holesWithinBlocks
    if (within !== undefined && Math.abs(one.blocks - other.blocks) > within) say('blocks', one.blocks, other.blocks)
  }
  for (const [path, entry] of b) if (!a.has(path) && !left(entry)) differences.push(`${shown(path)}: not in the first tree`)
  return differences
}

async function sha256(directory: string, paths: readonly string[]): Promise<Map<string, string>> {
  const [short, long] = byLength(paths)
  const hashes = new Map<string, string>()
  if (short.length > 0) {
    const printed = await run('xargs', ['-0', 'sha256sum', '-z', '--'], directory, nulEnded(short), !asRoot)
    // -z: no escapes; 64 digits, a space, a mode character, the name.
    for (const line of printed.split('\0')) if (line !== '') hashes.set(line.slice(66), line.slice(0, 64))
  }
  for (const path of long) hashes.set(path, (await below(directory, path, 'sha256sum <"$p"')).slice(0, 64))
  return hashes
}

async function deviceNumbers(directory: string, paths: readonly string[]): Promise<Map<string, string>> {
  const [short, long] = byLength(paths)
  const printed =
    short.length === 0 ? [] : (await run('xargs', ['-0', 'stat', '--printf=%t:%T\\0', '--'], directory, nulEnded(short))).split('\0')
  const numbers = new Map(short.map((path, i) => [path, at(printed, i)]))
  for (const path of long) numbers.set(path, await below(directory, path, 'stat --printf=%t:%T -- "$p"'))
  return numbers
}

async function attributesOf(directory: string, paths: readonly string[]): Promise<Map<string, string[]>> {
  const [short, long] = byLength(paths)
  const found = new Map<string, string[]>()
  const take = (printed: string, name?: string): void => {
    let lines: string[] = []
    for (const line of printed.split('\n')) {
      if (line.startsWith('# file: ')) {
        lines = []
        found.set(name ?? unescaped(line.slice(8)), lines)
      } else if (line !== '') lines.push(line)
    }
    for (const list of found.values()) list.sort()
  }
  const flags = ['-h', '-d', '-m', '-', '-e', 'hex', '--absolute-names', '--']
  if (short.length > 0) take(await run('xargs', ['-0', 'getfattr', ...flags], directory, nulEnded(short), !asRoot))
  for (const path of long) take(await below(directory, path, `getfattr ${flags.join(' ')} "$p"`), path)
  return found
}

/** Runs a line of shell with `$p` naming the last step of a path that is too long to be named whole. */
function below(directory: string, path: string, line: string): Promise<string> {
  const down = 'p=$1; while [ ${#p} -gt 3000 ]; do cd -P -- "./${p%%/*}" 2>/dev/null || exit 1; p=${p#*/}; done; p=./$p; '
  return run('xargs', ['-0', 'sh', '-c', down + line, 'sh'], directory, nulEnded([path.slice(2)]))
}

function byLength(paths: readonly string[]): [short: string[], long: string[]] {
  return [paths.filter((path) => path.length <= LONG_PATH), paths.filter((path) => path.length > LONG_PATH)]
}

/** getfattr writes what would break its lines as a backslash and three octal digits. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

function nulEnded(paths: readonly string[]): string {
  return paths.map((path) => `${path}\0`).join('')
}

function at(row: readonly string[], index: number): string {
  const value = row[index]
  if (value === undefined) throw new Error('a tool printed fewer fields than it was asked for')
  return value
}

function shown(latin1: string): string {
  const whole = JSON.stringify(latin1).replace(/[\u007f-\u00ff]/g, (c) => `\\x${c.charCodeAt(0).toString(16)}`)
  return whole.length <= 300 ? whole : `${whole.slice(0, 140)}...${whole.slice(-140)}`
}

/** Runs a tool in the C locale; input and output are latin1 strings of bytes. With `tolerant`, failures of single files are left to the caller. */
function run(command: string, args: readonly string[], cwd: string, input: string, tolerant = false): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: { LC_ALL: 'C', PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })
    const [out, err]: [Buffer[], Buffer[]] = [[], []]
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
    // A tool that ends early closes its input; its exit code tells why.
    child.stdin.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') reject(error)
    })
    child.on('error', reject)
    child.on('close', (code) => {
      if (code === 0 || (tolerant && code === 123)) resolve(Buffer.concat(out).toString('latin1'))
      else reject(new Error(`${command} ${args.slice(0, 3).join(' ')} ended with ${code}: ${shown(Buffer.concat(err).toString('latin1'))}`))
    })
    child.stdin.end(Buffer.from(input, 'latin1'))
  })
}

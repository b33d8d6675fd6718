// The independent oracle for fidelity: what a directory holds, as find, sha256sum, stat, getfattr, lsattr and xfs_io report it. It shares no code with the
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
  /** Those of lsattr's letters that a backup program keeps: a (append only), c (compressed), d (no dump), i (immutable). */
  readonly flags: string
  /** With `dataMaps`: where a file that has holes has data, as lseek finds it; empty for any other. */
  readonly dataMap: string
}

export type ManifestOptions = {
  /** Also where data and holes are; needs xfs_io (Debian: xfsprogs). Large files then are read only where they have data. */
  readonly dataMaps?: boolean | undefined
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
export async function treeManifest(directory: string, options: ManifestOptions = {}): Promise<Map<string, ManifestEntry>> {
  const found = (await run('find', ['.', '-printf', FIELDS.join('\\0') + '\\0'], directory, '')).split('\0')
  if (found.pop() !== '' || found.length % FIELDS.length !== 0) throw new Error('find printed something that is not a list of entries')
  const rows: string[][] = []
  for (let i = 0; i < found.length; i += FIELDS.length) rows.push(found.slice(i, i + FIELDS.length))
  rows.sort((a, b) => (at(a, 0) < at(b, 0) ? -1 : 1))

  const paths = (wanted: (row: string[]) => boolean): string[] => rows.filter(wanted).map((row) => `./${at(row, 0)}`)
  const isHoley = (row: string[]): boolean => at(row, 1) === 'f' && Number(at(row, 9)) * 512 < Number(at(row, 4))
  const maps = options.dataMaps === true ? await dataMaps(directory, paths(isHoley)) : new Map<string, string>()
  const isMapped = (row: string[]): boolean => Number(at(row, 4)) >= LARGE && maps.has(`./${at(row, 0)}`)
  const hashes = await sha256(
    directory,
    paths((row) => isRead(row) && !isMapped(row)),
  )
  for (const path of paths((row) => isRead(row) && isMapped(row))) hashes.set(path, await dataHash(directory, path, maps.get(path) ?? ''))
  const flags = await inodeFlags(
    directory,
    paths((row) => 'fd'.includes(at(row, 1))),
  )
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
      flags: flags.get(`./${path}`) ?? '',
      dataMap: maps.get(`./${path}`) ?? '',
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
    say('flags', one.flags, other.flags)
    if (one.kind !== 'f' || other.kind !== 'f') continue
    say('size', one.size, other.size)
    say('content', one.content, other.content)
    say('data map', one.dataMap, other.dataMap)
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

/** Where a name breaks a line of lsattr, or a path is too long to be named, its flags are not looked at. */
async function inodeFlags(directory: string, paths: readonly string[]): Promise<Map<string, string>> {
  const plain = byLength(paths)[0].filter((path) => !path.includes('\n'))
  if (plain.length === 0) return new Map()
  const printed = await run('xargs', ['-0', 'lsattr', '-d', '--'], directory, nulEnded(plain), true)
  const found = printed.split('\n').map((line): [string, string] => {
    const space = line.indexOf(' ')
    return [line.slice(space + 1), line.slice(0, space).replace(/[^acdi]/g, '')]
  })
  return new Map(found)
}

/** Lines of `xfs_io seek -a`, which asks lseek and nothing else: `DATA 0`, `HOLE 4096`, ... */
async function dataMaps(directory: string, paths: readonly string[]): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  const line = 'for p; do xfs_io -r -c "seek -a -r 0" "$p" && printf "\\0" || exit 255; done'
  if (paths.length === 0) return found
  const printed = (await run('xargs', ['-0', 'sh', '-c', line, 'sh'], directory, nulEnded(paths))).split('\0')
  for (const [i, path] of paths.entries())
    found.set(
      path,
      at(printed, i)
        .replace(/^Whence.*\n/, '')
        .trim()
        .split('\n')
        .join(','),
    )
  return found
}

/** SHA-256 of a file's data, its holes left out; the map says where they are. */
async function dataHash(directory: string, path: string, map: string): Promise<string> {
  const marks = map.split(',').map((mark) => mark.split(/\s+/))
  const pieces = marks.flatMap(([what, offset], i) => (what === 'DATA' ? [`${offset} ${marks[i + 1]?.[1] ?? 'EOF'}`] : []))
  const line = `while read -r from to; do [ "$to" != EOF ] || to=$(stat -c %s -- "$p"); dd if="$p" bs=64K iflag=skip_bytes,count_bytes skip="$from" count=$((to - from)) status=none; done <<. | sha256sum
${pieces.join('\n')}
.
`
  return `data:${(await below(directory, path, line)).slice(0, 64)}`
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

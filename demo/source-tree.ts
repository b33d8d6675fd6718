// What the demonstration backs up: a copy of a public tree that is at hand, so that nobody's files are touched, and changes to it between two runs.
import { execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** Public trees that a host is likely to have, the first one counts. The last is always there: the packages this checkout installed. */
const CANDIDATES = [
  '/usr/share/doc',
  '/usr/include',
  resolve(import.meta.dirname, '../node_modules/@aws-sdk'),
  resolve(import.meta.dirname, '../node_modules/zod'),
]

/** The tree to show: what was asked for, or the first candidate with enough in it. */
export function chooseTree(asked: string | undefined): string {
  if (asked !== undefined) {
    const path = resolve(asked)
    if (!existsSync(path) || !statSync(path).isDirectory())
      throw new Error(`'${asked}' is not a directory: name one, or none for a tree that is at hand`)
    return path
  }
  return CANDIDATES.find((path) => existsSync(path) && readdirSync(path).length > 20) ?? CANDIDATES.at(-1)!
}

export function copyTree(from: string, to: string): void {
  mkdirSync(to, { recursive: true })
  execFileSync('cp', ['-a', '--', `${from}/.`, to])
}

/** One of each that a backup has to notice: a changed file, a new one, one that is gone, a renamed one, a link, a hole. Gives the changed file's path. */
export function changeTree(tree: string): string {
  const files = execFileSync('find', [tree, '-type', 'f', '-size', '+1k', '-print0'], { maxBuffer: 256 * 2 ** 20 })
    .toString('latin1')
    .split('\0')
    .filter(Boolean)
    .sort()
  const [first, second, third] = files
  if (first === undefined || second === undefined || third === undefined) throw new Error(`${tree} has too few files to show anything`)
  appendFileSync(Buffer.from(first, 'latin1'), 'one more line\n')
  rmSync(Buffer.from(second, 'latin1'))
  renameSync(Buffer.from(third, 'latin1'), Buffer.from(`${third}.renamed`, 'latin1'))
  const fresh = join(tree, 'new in this run')
  mkdirSync(fresh)
  writeFileSync(join(fresh, 'report.txt'), 'Written between two backups.\n'.repeat(4000))
  symlinkSync('report.txt', join(fresh, 'link to the report'))
  execFileSync('truncate', ['-s', '64M', join(fresh, 'mostly a hole')])
  appendFileSync(join(fresh, 'mostly a hole'), 'its end')
  return join(fresh, 'report.txt')
}

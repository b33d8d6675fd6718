// Paths that a person names: absolute and free of `.` and `..`, by the text alone (a symlink in them is not looked at).
import { createHash } from 'node:crypto'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { shownBytes } from './byte-text.ts'

const SLASH = 0x2f

/** An absolute path from one that may be relative to `cwd`. Throws `usage` for an empty one or one that holds NUL. */
export function absolutePath(cwd: Buffer, path: Buffer): Buffer {
  if (path.length === 0) throw new HoldfastError('usage', 'a path is empty; name a file or directory')
  if (path.includes(0)) throw new HoldfastError('usage', `the path ${shownBytes(path)} holds a NUL byte`)
  const whole = path[0] === SLASH ? path : Buffer.concat([cwd, Buffer.from('/'), path])
  const parts: string[] = []
  for (const part of whole.toString('latin1').split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '' && part !== '.') parts.push(part)
  }
  return Buffer.from(`/${parts.join('/')}`, 'latin1')
}

/** Tells places of repositories apart, as 64 digits of hex; says nothing of them to whoever reads it. */
export function hashOfLocation(location: string): string {
  return createHash('sha256').update(location).digest('hex')
}

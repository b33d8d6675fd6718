// Which entries a source leaves out: gitignore syntax over bytes. Names are handled as Latin-1 text, one character a byte, so that a name
// that is not UTF-8 is matched like any other; patterns are turned into the same form.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import ignore from 'ignore'
import type { FileSystem } from '../file-system/file-system.ts'
import { FileError } from '../file-system/file-system.ts'
import type { ExcludeRules } from './backup-types.ts'

export type Excludes = {
  /** `path` is absolute. */
  readonly leavesOut: (path: Buffer, directory: boolean, size: number) => boolean
  /** True for a directory whose CACHEDIR.TAG says that its content can be made again (bford.info/cachedir). */
  readonly isCache: (directoryFd: number) => boolean
}

const CACHE_TAG = Buffer.from('CACHEDIR.TAG')
const CACHE_SIGNATURE = Buffer.from('Signature: 8a477f597d28d172789f06886806bc55')

/** Compiles the rules. A pattern that cannot be one is a `usage` error that names it. */
export function compileExcludes(rules: ExcludeRules, fileSystem: FileSystem): Excludes {
  for (const pattern of rules.patterns)
    if (pattern.trim() === '' || pattern.includes('\0') || pattern.length > 4096)
      throw new HoldfastError(
        'usage',
        `the exclude pattern '${printable(pattern)}' is empty or too long: give a pattern in gitignore syntax`,
      )
  const matcher = ignore({ ignorecase: false, allowRelativePaths: true })
  matcher.add(rules.patterns.map((pattern) => Buffer.from(pattern, 'utf8').toString('latin1')))
  const none = rules.patterns.length === 0
  const limit = rules.largerThanBytes ?? Infinity
  return {
    leavesOut: (path, directory, size) => {
      if (!directory && size > limit) return true
      if (none || path.length < 2) return false
      return matcher.ignores(path.toString('latin1', 1) + (directory ? '/' : ''))
    },
    isCache: (directoryFd) => {
      if (!rules.cacheDirectories) return false
      try {
        const fd = fileSystem.open(directoryFd, CACHE_TAG, 'read')
        try {
          const head = Buffer.alloc(CACHE_SIGNATURE.length)
          return fileSystem.read(fd, head, 0, head.length, 0) === head.length && head.equals(CACHE_SIGNATURE)
        } finally {
          fileSystem.close(fd)
        }
      } catch (error) {
        // No tag, or one that cannot be read: then the directory is backed up, which is the safe side.
        if (error instanceof FileError) return false
        throw error
      }
    },
  }
}

export function isCacheTag(name: Buffer): boolean {
  return name.equals(CACHE_TAG)
}

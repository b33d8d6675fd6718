// Turns what the kernel says about a store's directory into the product's errors: full, refused, or not to be reached.
import { HoldfastError, messageOf, printable } from '../errors.ts'

const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])
const REFUSED = new Set(['EROFS', 'EACCES', 'EPERM', 'ELOOP', 'ENOTDIR', 'EISDIR', 'ENAMETOOLONG', 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP'])

/** The name of a failed call's errno (`ENOENT`), or undefined for any other error. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}

/** `error` as a store error about `what`; errors of the product's own pass through unchanged. */
export function directoryError(error: unknown, act: string, what: string): HoldfastError {
  if (error instanceof HoldfastError) return error
  const errno = errnoOf(error)
  const at = printable(what)
  const options = { cause: error, fields: { act, errno: errno ?? 'none' } }
  if (errno === undefined) return new HoldfastError('failed', `${act} failed for ${at}: ${messageOf(error)}`, options)
  if (FULL.has(errno))
    return new HoldfastError('store-full', `no space left to ${act} ${at} (${errno}); free some or move the repository`, options)
  if (errno === 'ENOENT' || errno === 'ENODEV')
    return new HoldfastError('store-unreachable', `${at} is not there (${errno}); is the disk or share mounted?`, options)
  if (errno === 'ENOTDIR' && act === 'open')
    return new HoldfastError('store-refused', `${at} is not a directory; name the directory of the repository`, options)
  if (REFUSED.has(errno))
    return new HoldfastError(
      'store-refused',
      `the file system refuses to ${act} ${at} (${errno}); check owner, permissions and mount`,
      options,
    )
  return new HoldfastError('store-unreachable', `${act} failed for ${at} (${errno}); check the disk or share and try again`, options)
}

/** A body's own file that cannot be read, or (without `error`) is no longer as long as it was declared. */
export function localFileError(error: unknown, path: Buffer): HoldfastError {
  if (error instanceof HoldfastError) return error
  const at = printable(path.toString('utf8'))
  const why =
    error === undefined ? 'does not have the length it was written with' : `cannot be read (${errnoOf(error) ?? messageOf(error)})`
  return new HoldfastError(
    'local-disk',
    `the spool file ${at} ${why}; check the local disk and run again`,
    error === undefined ? {} : { cause: error },
  )
}

// Extended attributes (user, trusted, security, and ACLs under system.) of anything that has a name, symbolic links included, without
// following a link and without a race: a path goes through /proc/self/fd/<descriptor>/, which names the open directory itself, whatever
// was renamed meanwhile. Needs /proc.
import { CWD, FileError, type Descriptor } from './file-system.ts'
import { again, failure, lastError, libc, NameBuffer } from './libc.ts'

/** What the kernel allows one list of names and one value to have at most (XATTR_LIST_MAX, XATTR_SIZE_MAX). */
const MAX_BYTES = 65536
const MAX_NAME = 255
/** Asked for first, because the kernel allocates, and for values clears, as much as is asked for: 64 KiB each time would double the cost. */
const USUAL_BYTES = 1024
const list = Buffer.alloc(MAX_BYTES)
const value = Buffer.alloc(MAX_BYTES)
const target = new NameBuffer()
const attributeName = new NameBuffer()

/**
 * Runs a call in the form that fits: on the open descriptor (fastest), on a handle opened with O_PATH (which the f-calls refuse) through
 * /proc following the last step, which leads to the very thing the handle holds, or on a name without following it.
 */
function reach(
  call: string,
  at: Descriptor,
  name: Uint8Array,
  ways: { onDescriptor: () => number; onHandle: (path: Uint8Array) => number; onName: (path: Uint8Array) => number },
): number {
  if (name.length > 0) {
    const path = at === CWD ? target.name(call, name) : target.underProc(call, at, name)
    return again(() => ways.onName(path))
  }
  const done = again(ways.onDescriptor)
  if (done >= 0 || lastError() !== 'EBADF' || at < 0) return done
  const path = target.underProc(call, at, name)
  const reached = again(() => ways.onHandle(path))
  // No such entry under /proc/self/fd means that the descriptor is not open at all.
  if (reached < 0 && lastError() === 'ENOENT') throw new FileError(call, 'EBADF')
  return reached
}

/** Asks with the usual room, and with the most there can be where that is too little. */
function inRoom(ask: (room: number) => number): number {
  const length = ask(USUAL_BYTES)
  return length < 0 && lastError() === 'ERANGE' ? ask(MAX_BYTES) : length
}

/** All attributes, sorted by the bytes of their names. A file system that knows no attributes has none. One removed meanwhile is left out. */
export function readAttributes(at: Descriptor, name: Uint8Array): { name: Buffer; value: Buffer }[] {
  const listed = inRoom((room) =>
    reach('listxattr', at, name, {
      onDescriptor: () => libc.flistxattr(at, list, room),
      onHandle: (path) => libc.listxattr(path, list, room),
      onName: (path) => libc.llistxattr(path, list, room),
    }),
  )
  if (listed === 0) return []
  if (listed < 0) {
    if (lastError() === 'ENOTSUP') return []
    throw failure('listxattr')
  }
  const names: Buffer[] = []
  for (let start = 0; start < listed;) {
    const end = list.indexOf(0, start)
    if (end < 0 || end >= listed) throw new FileError('listxattr', 'EUCLEAN')
    names.push(Buffer.from(list.subarray(start, end)))
    start = end + 1
  }
  const attributes: { name: Buffer; value: Buffer }[] = []
  for (const attribute of names.sort((a, b) => a.compare(b))) {
    const ended = attributeName.name('getxattr', attribute)
    const length = inRoom((room) =>
      reach('getxattr', at, name, {
        onDescriptor: () => libc.fgetxattr(at, ended, value, room),
        onHandle: (path) => libc.getxattr(path, ended, value, room),
        onName: (path) => libc.lgetxattr(path, ended, value, room),
      }),
    )
    if (length >= 0) attributes.push({ name: attribute, value: Buffer.from(value.subarray(0, length)) })
    else if (lastError() !== 'ENODATA') throw failure('getxattr')
  }
  return attributes
}

export function setAttribute(at: Descriptor, name: Uint8Array, attribute: Uint8Array, content: Uint8Array): void {
  const ended = endedAttribute('setxattr', attribute)
  const length = content.length
  // Never a pointer to nothing, also for an empty value.
  const bytes = length === 0 ? value : content
  const done = reach('setxattr', at, name, {
    onDescriptor: () => libc.fsetxattr(at, ended, bytes, length, 0),
    onHandle: (path) => libc.setxattr(path, ended, bytes, length, 0),
    onName: (path) => libc.lsetxattr(path, ended, bytes, length, 0),
  })
  if (done < 0) throw failure('setxattr')
}

export function removeAttribute(at: Descriptor, name: Uint8Array, attribute: Uint8Array): void {
  const ended = endedAttribute('removexattr', attribute)
  const done = reach('removexattr', at, name, {
    onDescriptor: () => libc.fremovexattr(at, ended),
    onHandle: (path) => libc.removexattr(path, ended),
    onName: (path) => libc.lremovexattr(path, ended),
  })
  if (done < 0) throw failure('removexattr')
}

function endedAttribute(call: string, attribute: Uint8Array): Uint8Array {
  if (attribute.length > MAX_NAME) throw new FileError(call, 'ERANGE')
  return attributeName.name(call, attribute)
}

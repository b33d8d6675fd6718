// Reads the names in a directory through getdents64, sorted by bytes. All names of one call share one block of memory and are compared
// in it without a call per comparison, so that a directory of a million entries costs about a second and no string is ever made of a name.
import { FileError, type Descriptor } from './file-system.ts'
import { failure, interrupted, libc, SEEK, SYS } from './libc.ts'

// struct linux_dirent64: inode u64, offset s64, record length u16, kind u8, then the NUL-ended name, padded to 8 bytes.
const RECORD_LENGTH = 16
const RECORD_NAME = 19
const records = Buffer.alloc(128 * 1024)
let packed = Buffer.alloc(64 * 1024)
let ends = new Uint32Array(4096)
const KEEP_BYTES = 1024 * 1024

/** Every name in the directory that `fd` is open on, from its beginning, except `.` and `..`, in the order of their bytes. */
export function readNames(fd: Descriptor): Buffer[] {
  if (libc.lseek(fd, 0, SEEK.SET) < 0) throw failure('lseek')
  let count = 0
  let used = 0
  for (;;) {
    const filled = libc.getdents64(SYS.getdents64, fd, records, records.length)
    if (filled < 0) {
      if (interrupted()) continue
      throw failure('getdents64')
    }
    if (filled === 0) break
    if (used + filled > packed.length) packed = grown(packed, used, filled)
    for (let at = 0; at < filled;) {
      const next = at + (records[at + RECORD_LENGTH] ?? 0) + 256 * (records[at + RECORD_LENGTH + 1] ?? 0)
      // A record without a length would keep us here for ever.
      if (next <= at + RECORD_NAME || next > filled) throw new FileError('getdents64', 'EUCLEAN')
      const start = used
      for (let i = at + RECORD_NAME; i < next; i++) {
        const byte = records[i] ?? 0
        if (byte === 0) break
        packed[used++] = byte
      }
      at = next
      if (isDots(packed, start, used)) {
        used = start
        continue
      }
      if (count === ends.length) {
        const more = new Uint32Array(count * 2)
        more.set(ends)
        ends = more
      }
      ends[count++] = used
    }
  }
  const names = sorted(packed, used, ends, count)
  if (packed.length > KEEP_BYTES) {
    packed = Buffer.alloc(64 * 1024)
    ends = new Uint32Array(4096)
  }
  return names
}

function grown(bytes: Buffer, used: number, more: number): Buffer<ArrayBuffer> {
  const larger = Buffer.alloc(Math.max(bytes.length * 2, used + more))
  bytes.copy(larger, 0, 0, used)
  return larger
}

function isDots(bytes: Uint8Array, start: number, end: number): boolean {
  const length = end - start
  return length === 0 || (length <= 2 && bytes[start] === 0x2e && bytes[end - 1] === 0x2e)
}

/** Copies the names out of the reused memory; what is returned belongs to the caller. */
function sorted(packed: Buffer, used: number, ends: Uint32Array, count: number): Buffer[] {
  const block = Buffer.allocUnsafe(used)
  packed.copy(block, 0, 0, used)
  const order = new Uint32Array(count)
  for (let i = 0; i < count; i++) order[i] = i
  order.sort((a, b) => {
    const startA = a === 0 ? 0 : (ends[a - 1] ?? 0)
    const startB = b === 0 ? 0 : (ends[b - 1] ?? 0)
    const lengthA = (ends[a] ?? 0) - startA
    const lengthB = (ends[b] ?? 0) - startB
    const common = lengthA < lengthB ? lengthA : lengthB
    for (let i = 0; i < common; i++) {
      const difference = (packed[startA + i] ?? 0) - (packed[startB + i] ?? 0)
      if (difference !== 0) return difference
    }
    return lengthA - lengthB
  })
  const names: Buffer[] = []
  for (let i = 0; i < count; i++) {
    const index = order[i] ?? 0
    names.push(block.subarray(index === 0 ? 0 : ends[index - 1], ends[index]))
  }
  return names
}

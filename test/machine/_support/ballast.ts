// What fills a disk of a test's own up to a rest.
import { closeSync, fsyncSync, ftruncateSync, openSync, writeSync } from 'node:fs'

const MIB = 1024 * 1024

/** Writes a file until nothing fits any more and takes `free` bytes off its end. What a file system keeps back for itself is no room. */
export function fillBut(path: string, free: number): void {
  const fd = openSync(path, 'w')
  let written = 0
  const zeros = Buffer.alloc(MIB)
  try {
    for (let block = MIB; block >= 4096;) {
      try {
        written += writeSync(fd, zeros, 0, block)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        block /= 16
      }
    }
    fsyncSync(fd)
    ftruncateSync(fd, Math.max(0, written - free))
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

// Runs the file-system contract on the file systems that this machine has: where temporary files lie, and tmpfs.
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { posixFileSystem } from '../../agent/file-system/posix-file-system.ts'
import { fileSystemContract } from './file-system-contract.ts'

const asRoot = process.getuid?.() === 0
const directories: string[] = []

function contractOn(name: string, parent: string): void {
  const directory = mkdtempSync(join(parent, 'file-system-contract-'))
  directories.push(directory)
  fileSystemContract(name, () => ({
    fs: posixFileSystem,
    root: Buffer.from(directory),
    can: { root: asRoot, attributes: true, acls: true, holes: true },
  }))
}

contractOn('posix, temporary files', tmpdir())
if (statSync('/dev/shm', { throwIfNoEntry: false })?.isDirectory() === true) contractOn('posix, tmpfs', '/dev/shm')

afterAll(() => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true })
})

// The directories of a restore: reached through descriptors that follow no link, opened again only where they are the same as before, few at a time,
// and over exactly once, from below upwards.
import { describe, expect, it } from 'vitest'
import { CWD, type Descriptor, FileError, type FileSystem } from '../../../agent/file-system/file-system.ts'
import { closedUnless, TargetDirectory, TargetTree } from '../../../agent/restore/target-tree.ts'
import type { WalkDirectory } from '../../../agent/restore/tree-reader.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { simulatedFileSystem } from '../../_support/simulated-file-system.ts'

const walk = {} as WalkDirectory
const bytes = (text: string): Buffer => Buffer.from(text)
const errno = (code: string) => expect.objectContaining({ errno: code })

function target() {
  const simulated = simulatedFileSystem({ clock: simulatedClock({}) })
  const open = new Set<Descriptor>()
  let opened = 0
  let broken = false
  const watched: Partial<FileSystem> = {
    open: (at, path, how) => {
      const fd = simulated.open(at, path, how)
      open.add(fd)
      opened += 1
      return fd
    },
    close: (fd) => {
      expect(open.delete(fd), 'a descriptor is closed once').toBe(true)
      simulated.close(fd)
    },
    stat: (at, path) => {
      if (broken) throw new FileError('stat', 'EIO')
      return simulated.stat(at, path)
    },
  }
  const fs = new Proxy(simulated as FileSystem, { get: (from, name: keyof FileSystem) => watched[name] ?? from[name] })
  simulated.makeDirectory(CWD, bytes('/top'), 0o755)
  const over: TargetDirectory[] = []
  const tree = new TargetTree(fs, (directory) => over.push(directory))
  const top = new TargetDirectory(undefined, walk)
  tree.adopt(top, fs.open(CWD, bytes('/top'), 'directory'))
  /** Makes a directory in another and adopts it, as a restore does. */
  const make = (parent: TargetDirectory, name: string): TargetDirectory => {
    const directory = new TargetDirectory(parent, walk)
    const at = tree.descriptor(parent)
    simulated.makeDirectory(at, bytes(name), 0o755)
    directory.name = bytes(name)
    tree.adopt(directory, fs.open(at, bytes(name), 'directory'))
    return directory
  }
  return { simulated, fs, tree, top, make, over, open, opened: () => opened, setBroken: (value: boolean) => (broken = value) }
}

describe('a directory of the target', () => {
  it('is at hand while it is open, and is opened again through those above it', () => {
    const { tree, top, make, opened, open } = target()
    const a = make(top, 'a')
    const b = make(a, 'b')
    expect(tree.descriptor(b)).toBe(b.fd)
    expect(a.identity).toMatchObject({ inode: expect.any(BigInt) })
    expect(a.identity).not.toEqual(b.identity)
    expect(opened()).toBe(3)
    tree.closeAll()
    expect(open.size).toBe(0)
    expect([top.fd, a.fd, b.fd]).toEqual([undefined, undefined, undefined])
    // The top was named by a person: it is never opened again by name.
    expect(() => tree.descriptor(b)).toThrow(errno('ENOENT'))
  })

  it('that was exchanged meanwhile, also for a link, is not entered', () => {
    const { simulated, tree, top, make, open } = target()
    const many = Array.from({ length: 128 }, (_, i) => make(top, `d${i}`))
    const [first] = many as [TargetDirectory]
    expect(first.fd).toBeUndefined()
    const before = open.size
    simulated.rename(top.fd!, bytes('d0'), top.fd!, bytes('moved'), false)
    simulated.makeDirectory(top.fd!, bytes('d0'), 0o755)
    expect(() => tree.descriptor(first)).toThrow(errno('ESTALE'))
    expect(open.size).toBe(before)
    simulated.rename(top.fd!, bytes('d0'), top.fd!, bytes('other'), false)
    simulated.makeSymlink(top.fd!, bytes('d0'), bytes('moved'))
    expect(() => tree.descriptor(first)).toThrow(FileError)
    expect(open.size).toBe(before)
    simulated.remove(top.fd!, bytes('d0'), 'file')
    simulated.rename(top.fd!, bytes('moved'), top.fd!, bytes('d0'), false)
    expect(tree.descriptor(first)).toBe(first.fd)
    expect(open.size).toBe(before + 1)
  })

  it('whose descriptor cannot be looked at is closed again', () => {
    const { fs, tree, top, open, setBroken, make } = target()
    const [first] = Array.from({ length: 128 }, (_, i) => make(top, `d${i}`))
    expect(first!.fd).toBeUndefined()
    const before = open.size
    setBroken(true)
    expect(() => tree.descriptor(first!)).toThrow(errno('EIO'))
    expect(() => tree.adopt(new TargetDirectory(top, walk), fs.open(top.fd!, bytes('d1'), 'directory'))).toThrow(errno('EIO'))
    expect(open.size).toBe(before)
  })

  it('is held open while work is in flight, however many others are opened', () => {
    const { tree, top, make, open } = target()
    const held = make(top, 'held')
    const fd = tree.hold(held)
    const used = make(top, 'used')
    for (let i = 0; i < 300; i++) {
      make(top, `d${i}`)
      // What is asked for again and again stays open.
      tree.descriptor(used)
      expect(open.size).toBeLessThanOrEqual(129)
    }
    expect(held.fd).toBe(fd)
    expect(used.fd).toBeDefined()
    expect(top.fd).toBeDefined()
    tree.release(held)
    expect(held.pins).toBe(0)
    for (let i = 300; i < 500; i++) make(top, `d${i}`)
    expect(held.fd).toBeUndefined()
  })

  it('closes down to half of what may be open, the longest unused first', () => {
    const { top, make, open } = target()
    const all = Array.from({ length: 127 }, (_, i) => make(top, `d${i}`))
    expect(open.size).toBe(128)
    const last = make(top, 'last')
    expect(open.size).toBe(64)
    expect(last.fd).toBeDefined()
    const isOpen = all.map(({ fd }) => fd !== undefined)
    expect(isOpen.lastIndexOf(false)).toBe(isOpen.indexOf(true) - 1)
  })

  it('is over once, when nothing below it is left to do and it was left, and ends those above with it', () => {
    const { tree, top, make, over, open } = target()
    const a = make(top, 'a')
    const b = make(a, 'b')
    tree.hold(b)
    tree.leave(b)
    expect(over).toEqual([])
    tree.leave(a)
    expect(over).toEqual([])
    tree.release(b)
    expect(over).toEqual([b, a])
    expect([a.fd, b.fd]).toEqual([undefined, undefined])
    expect(open.size).toBe(1)
    tree.leave(top)
    expect(over).toEqual([b, a, top])
    expect(open.size).toBe(0)
  })

  it('begins unmade, with one thing to do, which its parent waits for', () => {
    const parent = new TargetDirectory(undefined, walk)
    const child = new TargetDirectory(parent, walk)
    expect(child).toMatchObject({ parent, walk, name: undefined, existed: false, finish: false, failed: false, holds: 1, pins: 0 })
    expect(parent.holds).toBe(2)
    const { tree } = target()
    expect(() => tree.descriptor(child)).toThrow(errno('ENOENT'))
    child.name = bytes('x')
    expect(() => tree.descriptor(child)).toThrow(errno('ENOENT'))
  })
})

describe('what is done with a descriptor that nobody knows of yet', () => {
  it('closes it only where it fails, and passes the failure on', () => {
    const { fs, open } = target()
    const fd = fs.open(CWD, bytes('/top'), 'directory')
    expect(closedUnless(fs, fd, () => 7)).toBe(7)
    expect(open.has(fd)).toBe(true)
    const failure = new FileError('stat', 'EIO')
    expect(() =>
      closedUnless(fs, fd, () => {
        throw failure
      }),
    ).toThrow(failure)
    expect(open.has(fd)).toBe(false)
  })
})

// Inode flags that forbid every further change: an immutable file takes no new name and no new time, an append-only directory gives up no
// temporary file. So they are set when everything else of the restore stands, and after it is durable: what a power cut left half-written
// must still be replaceable by the next try. Holds one small record for each entry that has such a flag.
import { type Descriptor, FileError, type FileSystem } from '../file-system/file-system.ts'
import type { Entry } from '../repository/tree.ts'
import { addFlags, flagsFor, isFatal, type MetadataProblem } from './metadata.ts'
import type { TargetDirectory, TargetTree } from './target-tree.ts'

const HERE = Buffer.alloc(0)

type Late = {
  readonly directory: TargetDirectory
  /** Empty for the directory itself. */
  readonly name: Buffer
  readonly path: Buffer
  readonly flags: number
  readonly inode: bigint
  readonly deviceId: bigint
}

export class LateFlags {
  readonly #fs: FileSystem
  readonly #tree: TargetTree
  readonly #late: Late[] = []

  constructor(fs: FileSystem, tree: TargetTree) {
    this.#fs = fs
    this.#tree = tree
  }

  get empty(): boolean {
    return this.#late.length === 0
  }

  /**
   * Gives what stands at `name` in `directory`, or the directory itself where the name is empty, the flags of its entry: at once those that
   * forbid nothing, at `set` the others, and those on nothing else that has taken its place by then.
   */
  give(directory: TargetDirectory, name: Buffer, path: Buffer, entry: Entry): MetadataProblem[] {
    const { open, protecting } = flagsFor(entry)
    if (open === 0 && protecting === 0) return []
    return problemsOf(() => {
      const at = this.#tree.descriptor(directory)
      const { inode, deviceId } = this.#fs.stat(at, name)
      if (protecting !== 0) this.#late.push({ directory, name, path, flags: protecting, inode, deviceId })
      return open === 0 ? [] : this.#setOn(at, name, open, { inode, deviceId })
    })
  }

  /** Sets what was put off. */
  set(onProblems: (path: Buffer, problems: readonly MetadataProblem[]) => void): void {
    for (const { directory, name, path, flags, ...identity } of this.#late.splice(0))
      onProblems(
        path,
        problemsOf(() => this.#setOn(this.#tree.descriptor(directory), name, flags, identity)),
      )
  }

  /** Leaves to the next restore what was put off: it has names to give that such a flag forbids. */
  leave(onProblems: (path: Buffer, problems: readonly MetadataProblem[]) => void): void {
    for (const { path } of this.#late.splice(0)) onProblems(path, [{ code: 'flags', errno: 'EAGAIN' }])
  }

  #setOn(at: Descriptor, name: Buffer, flags: number, identity: { inode: bigint; deviceId: bigint }): MetadataProblem[] {
    if (name.length === 0) return addFlags(this.#fs, at, flags)
    const fd = this.#fs.open(at, name, 'read')
    try {
      const now = this.#fs.stat(fd, HERE)
      if (now.inode !== identity.inode || now.deviceId !== identity.deviceId) throw new FileError('stat', 'ESTALE')
      return addFlags(this.#fs, fd, flags)
    } finally {
      this.#fs.close(fd)
    }
  }
}

function problemsOf(act: () => MetadataProblem[]): MetadataProblem[] {
  try {
    return act()
  } catch (error) {
    if (!(error instanceof FileError) || isFatal(error)) throw error
    return [{ code: 'flags', errno: error.errno }]
  }
}

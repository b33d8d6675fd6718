// File systems of a test's own, mounted for as long as it runs: an image through a loop device, or memory. Needs root and mounts; where one of
// them cannot be had, that is told with its reason, so that a test can say what it did not look at.
import { mkdirSync } from 'node:fs'
import type { FileSystemKind } from './fidelity-cases.ts'
import { runProgram } from './processes.ts'

export type Mounted = { readonly unmount: () => Promise<void> }

const MAKE: Readonly<Record<Exclude<FileSystemKind, 'tmpfs'>, readonly string[]>> = {
  // Values of attributes beyond a block, times to 2446 with nanoseconds, and names enough for seven copies of a large directory.
  ext4: ['mkfs.ext4', '-q', '-F', '-I', '256', '-i', '4096', '-O', 'ea_inode', '-E', 'lazy_itable_init=1,lazy_journal_init=1,nodiscard'],
  xfs: ['mkfs.xfs', '-q', '-f', '-K'],
  btrfs: ['mkfs.btrfs', '-q', '-f', '-K'],
}

/** Mounts an empty file system of up to `mib` MiB at `place`, which is made; `image` is where its image may stand. Gives the reason where it cannot. */
export async function mountEmpty(kind: FileSystemKind, place: string, image: string, mib: number): Promise<Mounted | string> {
  mkdirSync(place, { recursive: true })
  const mounted =
    kind === 'tmpfs'
      ? await tried('mount', ['-t', 'tmpfs', '-o', `size=${mib}M`, 'holdfast-test', place])
      : ((await tried('truncate', ['-s', `${mib}M`, image])) ??
        (await tried(MAKE[kind][0] ?? '', [...MAKE[kind].slice(1), image])) ??
        (await tried('mount', ['-t', kind, '-o', 'loop', image, place])))
  if (mounted !== undefined) return mounted
  return {
    unmount: async () => {
      const failed = await tried('umount', [place])
      if (failed !== undefined) throw new Error(failed)
    },
  }
}

/** Undefined where the program did it, or why it did not. */
async function tried(command: string, args: readonly string[]): Promise<string | undefined> {
  try {
    const { code, stderr } = await runProgram(command, args, { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' } })
    return code === 0 ? undefined : `${command}: ${stderr.trim()}`
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return `${command} is not installed`
    throw error
  }
}

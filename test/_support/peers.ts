// The backup programs that Holdfast is measured against, as Debian packages them, with the options that keep most: a tree is stored by one and
// brought back. What they say of single files is theirs; whoever calls compares what came back.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { EXCLUDED_SUFFIX } from './fidelity-cases.ts'
import { runProgram } from './processes.ts'

export type Peer = 'tar' | 'restic' | 'borg'
export const PEERS: readonly Peer[] = ['tar', 'restic', 'borg']

/**
 * Stores `source`, an absolute path, and restores it under `target`, which is made. Gives the directory that stands for the source there, or
 * nothing where the program gave up. */
export async function peerRestore(peer: Peer, source: string, target: string, scratch: string): Promise<string | undefined> {
  mkdirSync(target)
  mkdirSync(scratch)
  const env = {
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
    LC_ALL: 'C.UTF-8',
    HOME: scratch,
    RESTIC_PASSWORD: 'peer',
    RESTIC_REPOSITORY: join(scratch, 'repository'),
    BORG_REPO: join(scratch, 'repository'),
    BORG_BASE_DIR: scratch,
  }
  /** `codes`: done, and done but for single files. What those lost is what is looked for. False where it broke. */
  const run = async (codes: readonly number[], cwd: string, command: string, ...args: string[]): Promise<boolean> => {
    const { code, signal, stderr } = await runProgram(command, args, { cwd, env })
    if (code === null || !codes.includes(code)) throw new Error(`${command} ended with ${code ?? signal}: ${stderr.slice(-2000)}`)
    if (stderr.includes('Traceback')) return false
    return true
  }
  const archive = join(scratch, 'tree.tar')
  const pattern = `*${EXCLUDED_SUFFIX}`
  const whole = ['--format=posix', '--xattrs', '--xattrs-include=*', '--acls', '--numeric-owner', '--sparse']
  switch (peer) {
    case 'tar':
      await run([0, 1, 2], source, 'tar', ...whole, `--exclude=${pattern}`, '-cf', archive, '.')
      await run([0, 1, 2], target, 'tar', ...whole, '--same-owner', '-xpf', archive)
      return target
    case 'restic':
      await run([0], scratch, 'restic', 'init')
      await run([0, 3], scratch, 'restic', 'backup', '--exclude', pattern, source)
      await run([0, 1], scratch, 'restic', 'restore', 'latest', '--target', target)
      return join(target, source)
    case 'borg':
      await run([0], scratch, 'borg', 'init', '-e', 'none')
      if (
        !(await run([0, 1, 2], source, 'borg', 'create', '--exclude', `re:${EXCLUDED_SUFFIX.replace('.', String.raw`\.`)}$`, '::tree', '.'))
      )
        return undefined
      await run([0, 1], target, 'borg', 'extract', '--numeric-ids', '--sparse', '::tree')
      return target
  }
}

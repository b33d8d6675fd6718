// The backup programs that Holdfast is measured against, as Debian packages them, with the options that keep most: a tree is stored by one and
// brought back. What they say of single files is theirs; whoever calls compares what came back.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { EXCLUDED_SUFFIX } from './fidelity-cases.ts'
import { runProgram } from './processes.ts'

export type Peer = 'tar' | 'restic' | 'borg'
export const PEERS: readonly Peer[] = ['tar', 'restic', 'borg']

/** Stores `source`, an absolute path, and restores it under `target`, which is made. Gives the directory that stands for the source there. */
export async function peerRestore(peer: Peer, source: string, target: string, scratch: string): Promise<string> {
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
  const run = async (cwd: string, command: string, ...args: string[]): Promise<void> => {
    const { code, signal, stderr } = await runProgram(command, args, { cwd, env })
    // 1 to 3: some files had problems. What they lost is what is looked for.
    if (code === null || code > 3) throw new Error(`${command} ended with ${code ?? signal}: ${stderr.slice(-2000)}`)
  }
  const archive = join(scratch, 'tree.tar')
  const pattern = `*${EXCLUDED_SUFFIX}`
  const whole = ['--format=posix', '--xattrs', '--xattrs-include=*', '--acls', '--numeric-owner', '--sparse']
  switch (peer) {
    case 'tar':
      await run(source, 'tar', ...whole, `--exclude=${pattern}`, '-cf', archive, '.')
      await run(target, 'tar', ...whole, '--same-owner', '-xpf', archive)
      return target
    case 'restic':
      await run(scratch, 'restic', 'init')
      await run(scratch, 'restic', 'backup', '--exclude', pattern, source)
      await run(scratch, 'restic', 'restore', 'latest', '--target', target)
      return join(target, source)
    case 'borg':
      await run(scratch, 'borg', 'init', '-e', 'none')
      await run(source, 'borg', 'create', '--exclude', `re:${EXCLUDED_SUFFIX.replace('.', String.raw`\.`)}$`, '::tree', '.')
      await run(target, 'borg', 'extract', '--numeric-ids', '--sparse', '::tree')
      return target
  }
}

// Restores a snapshot by the reader in one file and GNU tar, which share no code with the product.
import { spawn } from 'node:child_process'
import { join } from 'node:path'

const READER = join(import.meta.dirname, '../../../reader/holdfast-reader.mjs')

/** Unpacks a snapshot of the repository in a directory below `target`; rejects where the reader or tar ends with anything but 0. */
export async function readIndependently(repository: string, snapshotId: string, recoveryCode: string, target: string): Promise<void> {
  const reader = spawn(process.execPath, [READER, repository, snapshotId], {
    env: { PATH: process.env['PATH'] ?? '', HOLDFAST_RECOVERY_CODE: recoveryCode },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const tar = spawn('tar', ['-xp', '--xattrs', '--xattrs-include=*', '--numeric-owner', '-C', target], {
    stdio: ['pipe', 'ignore', 'pipe'],
  })
  let said = ''
  reader.stdout.pipe(tar.stdin)
  tar.stdin.on('error', (error) => (said += error.message))
  for (const stream of [reader.stderr, tar.stderr]) stream.on('data', (data: Buffer) => (said += data.toString()))
  const codes = await Promise.all([reader, tar].map((child) => new Promise<number | null>((resolve) => child.once('close', resolve))))
  if (codes.some((code) => code !== 0)) throw new Error(`the reader and tar ended with ${codes.join(' and ')}: ${said}`)
}

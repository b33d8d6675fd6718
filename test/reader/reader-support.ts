// Runs the single-file reader as its users do, in a process of its own, and gives tests its primitives.
// The reader is plain JavaScript made from FORMAT.md alone: what it restores, the document describes.
import type { ChildProcessByStdio } from 'node:child_process'
import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'

const READER = new URL('../../reader/holdfast-reader.mjs', import.meta.url)

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export type ReaderSecret = { readonly recoveryCode?: string; readonly password?: string; readonly keysDir?: string }
export type ReaderRun = { readonly code: number; readonly stdout: string; readonly stderr: string }

/** The reader's parts that tests check by themselves. */
export type ReaderPrimitives = {
  readonly blake3: (data: Buffer, key?: Buffer) => Buffer
  readonly pad: (n: number) => number
  readonly recoveryCode: (text: string) => Buffer | undefined
  readonly xwingKeys: (seed: Buffer) => { readonly public: Buffer }
  readonly xwingDecapsulate: (keys: { readonly public: Buffer }, ciphertext: Buffer) => Buffer
  readonly reader: (bytes: Buffer) => { varint64(): bigint; svarint64(): bigint }
}

export async function readerPrimitives(): Promise<ReaderPrimitives> {
  return (await import(READER.href)) as ReaderPrimitives
}

/** Restores a snapshot (an id's beginning, or `latest`) of a copied repository into a target through GNU tar, as the reader's usage says.
 * The code is the reader's, or 3 where only tar complained; what both said is in stderr. */
export async function runReader(repositoryDir: string, snapshot: string, target: string, secret: ReaderSecret): Promise<ReaderRun> {
  mkdirSync(target, { recursive: true, mode: 0o700 })
  const reader = start([repositoryDir, snapshot], secret)
  const flags = ['--xattrs', '--xattrs-include=*', '--numeric-owner', '--warning=no-timestamp', '--warning=no-unknown-keyword']
  const tar = spawn('tar', ['-xp', ...flags, '-C', target], { env: { PATH, LC_ALL: 'C' }, stdio: ['pipe', 'ignore', 'pipe'] })
  // A tar that ends early closes its input; what it said, and the reader's code, tell why.
  const piped = pipeline(reader.stdout, tar.stdin).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE' && error.code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error
  })
  const [read, extracted] = await Promise.all([ended(reader), ended(tar), piped])
  const isSilent = extracted.code === 0 && extracted.stderr === ''
  const code = read.code !== 0 || isSilent ? read.code : 3
  return { code, stdout: '', stderr: read.stderr + extracted.stderr }
}

/** A snapshot as a tar archive. */
export async function runReaderArchive(
  repositoryDir: string,
  snapshot: string,
  secret: ReaderSecret,
): Promise<ReaderRun & { readonly archive: Buffer }> {
  const reader = start([repositoryDir, snapshot], secret)
  const [archive, run] = await Promise.all([buffer(reader.stdout), ended(reader)])
  return { ...run, archive }
}

/** Lists the snapshots of a copied repository; also runs the reader with any other words. */
export async function runReaderList(repositoryDir: string, secret: ReaderSecret, ...words: readonly string[]): Promise<ReaderRun> {
  const reader = start([repositoryDir, ...words], secret)
  const [stdout, run] = await Promise.all([text(reader.stdout), ended(reader)])
  return { ...run, stdout }
}

function start(words: readonly string[], secret: ReaderSecret): ChildProcessByStdio<null, Readable, Readable> {
  const argv = [fileURLToPath(READER), ...words, ...(secret.keysDir === undefined ? [] : ['--keys', secret.keysDir])]
  const env: NodeJS.ProcessEnv = { PATH }
  if (secret.recoveryCode !== undefined) env['HOLDFAST_RECOVERY_CODE'] = secret.recoveryCode
  if (secret.password !== undefined) env['HOLDFAST_PASSWORD'] = secret.password
  return spawn(process.execPath, argv, { env, stdio: ['ignore', 'pipe', 'pipe'] })
}

/** How a process ended, and what it complained of. */
function ended(child: ChildProcessByStdio<Writable | null, Readable | null, Readable>): Promise<ReaderRun> {
  return new Promise((resolve, reject) => {
    const err: Buffer[] = []
    child.stderr.on('data', (part: Buffer) => err.push(part))
    child.on('error', reject)
    child.on('close', (code, signal) => {
      const stderr = Buffer.concat(err).toString()
      resolve({ code: code ?? 1, stdout: '', stderr: signal === null ? stderr : `${stderr}ended by ${signal}` })
    })
  })
}

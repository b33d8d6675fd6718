// Runs the single-file reader as its users do, in a process of its own, and gives tests its primitives.
// The reader is plain JavaScript made from FORMAT.md alone: what it restores, the document describes.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const READER = new URL('../../reader/holdfast-reader.mjs', import.meta.url)

export type ReaderSecret = { readonly recoveryCode?: string; readonly password?: string; readonly keysDir?: string }
export type ReaderRun = { readonly code: number; readonly stdout: string; readonly stderr: string }

/** The reader's parts that tests check by themselves. */
export type ReaderPrimitives = {
  readonly blake3: (data: Buffer, key?: Buffer) => Buffer
  readonly pad: (n: number) => number
  readonly recoveryCode: (text: string) => Buffer | null
  readonly xwingKeys: (seed: Buffer) => { readonly public: Buffer }
  readonly xwingDecapsulate: (keys: { readonly public: Buffer }, ciphertext: Buffer) => Buffer
  readonly Cursor: new (bytes: Buffer) => {
    varint64(): bigint
    svarint64(): bigint
    u64(): number
    bytes(limit: number): Buffer
    end(): void
  }
}

export async function readerPrimitives(): Promise<ReaderPrimitives> {
  return (await import(READER.href)) as ReaderPrimitives
}

/** Restores a snapshot (an id's beginning, or `latest`) of a copied repository into a fresh target. */
export function runReader(repositoryDir: string, snapshot: string, target: string, secret: ReaderSecret): Promise<ReaderRun> {
  return run([repositoryDir, snapshot, target], secret)
}

/** A snapshot as a tar archive. */
export async function runReaderArchive(
  repositoryDir: string,
  snapshot: string,
  secret: ReaderSecret,
): Promise<ReaderRun & { readonly archive: Buffer }> {
  const { stdout, ...ended } = await runBytes([repositoryDir, snapshot], secret)
  return { ...ended, stdout: '', archive: stdout }
}

/** Lists the snapshots of a copied repository. */
export function runReaderList(repositoryDir: string, secret: ReaderSecret): Promise<ReaderRun> {
  return run([repositoryDir, '--list'], secret)
}

async function run(words: readonly string[], secret: ReaderSecret): Promise<ReaderRun> {
  const { stdout, ...ended } = await runBytes(words, secret)
  return { ...ended, stdout: stdout.toString() }
}

function runBytes(words: readonly string[], secret: ReaderSecret): Promise<Omit<ReaderRun, 'stdout'> & { readonly stdout: Buffer }> {
  const argv = [fileURLToPath(READER), ...words, ...(secret.keysDir === undefined ? [] : ['--keys', secret.keysDir])]
  const env: NodeJS.ProcessEnv = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' }
  if (secret.recoveryCode !== undefined) env['HOLDFAST_RECOVERY_CODE'] = secret.recoveryCode
  if (secret.password !== undefined) env['HOLDFAST_PASSWORD'] = secret.password
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, argv, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', (part: Buffer) => out.push(part))
    child.stderr.on('data', (part: Buffer) => err.push(part))
    child.on('error', reject)
    child.on('close', (code, signal) => {
      const stderr = Buffer.concat(err).toString()
      resolve({ code: code ?? 1, stdout: Buffer.concat(out), stderr: signal === null ? stderr : `${stderr}ended by ${signal}` })
    })
  })
}

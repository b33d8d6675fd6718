// Where a passphrase or recovery code comes from: the environment (handed in, never read here), or a question on the terminal.
// Promise: exactly one source counts, an empty secret is refused, and no message or child process repeats a secret.
import { spawn } from 'node:child_process'
import { open } from 'node:fs/promises'
import { HoldfastError, messageOf, printable } from '@holdfast/shared/errors.ts'
import type { Secret } from './key-object.ts'
import type { Terminal } from './terminal.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export type SecretRequest = {
  readonly env: Environment
  /** Undefined where nobody can be asked. */
  readonly terminal: Terminal | undefined
  /** `open` asks once; `new` asks twice and takes no recovery code. */
  readonly purpose: 'open' | 'new'
  /** The variables are `PREFIX_PASSWORD` and so on. `HOLDFAST` unless given; `HOLDFAST_NEW` where an old and a new passphrase are needed. */
  readonly prefix?: string
}

const SECRET_BYTES_MAX = 64 * 1024
const QUESTIONS_MAX = 3

/**
 * The secret from the one variable that is set: `HOLDFAST_PASSWORD`, `_PASSWORD_FILE` (a file, pipe or descriptor), `_PASSWORD_COMMAND` (run by
 * `sh -c`, with no input, so that quoting and pipes mean what they mean in a shell) or `_RECOVERY_CODE`; else from the terminal. One newline at the
 * end of a file or an output is dropped. Throws `usage` where several are set, the secret is empty or nobody can be asked, `bad-config` where
 * the file or command fails, `cancelled` for Ctrl-C.
 */
export async function readSecret(request: SecretRequest): Promise<Secret> {
  const { env, terminal, purpose, prefix = 'HOLDFAST' } = request
  const variables = ['PASSWORD', 'PASSWORD_FILE', 'PASSWORD_COMMAND', ...(purpose === 'open' ? ['RECOVERY_CODE'] : [])]
  const set = variables.map((name) => `${prefix}_${name}`).filter((name) => env[name] !== undefined)
  if (set.length > 1) throw new HoldfastError('usage', `${set.join(' and ')} are both set. Set only one of them.`)
  const [variable] = set
  if (variable === undefined) {
    if (terminal === undefined) {
      throw new HoldfastError(
        'usage',
        `A passphrase is needed and there is no terminal to ask on. Set ${prefix}_PASSWORD, ${prefix}_PASSWORD_FILE or ${prefix}_PASSWORD_COMMAND.`,
      )
    }
    return { passphrase: await ask(terminal, purpose) }
  }
  const value = env[variable] ?? ''
  if (value === '') throw new HoldfastError('usage', `${variable} is set but empty. Give it a value or unset it.`)
  if (variable === `${prefix}_RECOVERY_CODE`) return { recoveryCode: value }
  if (variable === `${prefix}_PASSWORD`) return { passphrase: value }
  const bytes = variable === `${prefix}_PASSWORD_FILE` ? await fromFile(variable, value) : await fromCommand(variable, value, env)
  const passphrase = withoutNewline(decode(variable, bytes))
  if (passphrase === '') throw new HoldfastError('usage', `${variable} gave an empty passphrase. Give one that is not.`)
  return { passphrase }
}

/**
 * A secret that only the environment may give, such as an API token: `NAME`, `NAME_FILE` or `NAME_COMMAND`; undefined where none is set. Throws as
 * `readSecret` does.
 */
export async function readSecretVariable(name: string, env: Environment): Promise<string | undefined> {
  const set = [name, `${name}_FILE`, `${name}_COMMAND`].filter((variable) => env[variable] !== undefined)
  if (set.length > 1) throw new HoldfastError('usage', `${set.join(' and ')} are both set. Set only one of them.`)
  const [variable] = set
  if (variable === undefined) return undefined
  const value = env[variable] ?? ''
  if (value === '') throw new HoldfastError('usage', `${variable} is set but empty. Give it a value or unset it.`)
  if (variable === name) return value
  const bytes = variable === `${name}_FILE` ? await fromFile(variable, value) : await fromCommand(variable, value, env)
  const secret = withoutNewline(decode(variable, bytes))
  if (secret === '') throw new HoldfastError('usage', `${variable} gave nothing. Correct it.`)
  return secret
}

async function ask(terminal: Terminal, purpose: SecretRequest['purpose']): Promise<string> {
  for (let asked = 0; asked < QUESTIONS_MAX; asked++) {
    const passphrase = await terminal.askSecret(purpose === 'new' ? 'New passphrase: ' : 'Passphrase: ')
    if (passphrase === '') terminal.say('An empty passphrase is not accepted.')
    else if (purpose === 'open') return passphrase
    else if ((await terminal.askSecret('The same again: ')) === passphrase) return passphrase
    else terminal.say('The two were not the same.')
  }
  throw new HoldfastError('usage', 'No passphrase was given. Start again when you have one.')
}

async function fromFile(variable: string, path: string): Promise<Buffer> {
  try {
    const file = await open(path, 'r')
    try {
      // Read in turn, not by position: the path may name a pipe or a descriptor.
      return await readBounded(variable, async (buffer) => buffer.subarray(0, (await file.read(buffer, 0, buffer.length, null)).bytesRead))
    } finally {
      await file.close()
    }
  } catch (cause) {
    if (cause instanceof HoldfastError) throw cause
    throw new HoldfastError('bad-config', `${variable} names ${printable(path)}, which cannot be read (${messageOf(cause)}). Correct it.`, {
      cause,
    })
  }
}

async function readBounded(variable: string, read: (buffer: Buffer) => Promise<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = []
  let length = 0
  for (;;) {
    const part = await read(Buffer.alloc(4096))
    if (part.length === 0) return Buffer.concat(parts)
    parts.push(part)
    length += part.length
    if (length > SECRET_BYTES_MAX) throw tooLong(variable)
  }
}

async function fromCommand(variable: string, command: string, env: Environment): Promise<Buffer> {
  // Its errors go to the terminal, where a helper may ask for something; its input is closed, since ours may be the data to back up.
  const child = spawn('/bin/sh', ['-c', command], { stdio: ['ignore', 'pipe', 'inherit'], env: { ...env } })
  const ended = new Promise<string | undefined>((resolve) => {
    child.once('error', (error) => resolve(`could not be started: ${messageOf(error)}`))
    child.once('close', (code, signal) =>
      resolve(code === 0 ? undefined : signal === null ? `ended with ${code}` : `was ended by ${signal}`),
    )
  })
  const parts: Buffer[] = []
  let length = 0
  child.stdout.on('data', (part: Buffer) => {
    length += part.length
    if (length <= SECRET_BYTES_MAX) parts.push(part)
    else {
      // What the shell started may outlive it and keep the pipe open; closing our end ends that too.
      child.kill()
      child.stdout.destroy()
    }
  })
  const problem = await ended
  if (length > SECRET_BYTES_MAX) throw tooLong(variable)
  // The command itself stays out of the message: it may hold a secret.
  if (problem !== undefined) throw new HoldfastError('bad-config', `The command in ${variable} ${problem}. Try it in a shell.`)
  return Buffer.concat(parts)
}

function tooLong(variable: string): HoldfastError {
  return new HoldfastError('bad-config', `${variable} gives more than ${SECRET_BYTES_MAX} bytes, which is no secret. Correct it.`)
}

function decode(variable: string, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    // The decoder says no more than that these bytes are not UTF-8; its message could only repeat them.
    throw new HoldfastError('bad-config', `${variable} gives a secret that is not UTF-8. Store it as UTF-8.`)
  }
}

function withoutNewline(text: string): string {
  return text.replace(/\r?\n$/, '')
}

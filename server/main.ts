// The command line `holdfast-server`: init, start, backup. The one module of the server that reads the environment and ends the process.
import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { Command, CommanderError } from 'commander'
import { renderUnicodeCompact } from 'uqr'
import { systemClock } from '@holdfast/shared/clock.ts'
import { readConfig, readSecret } from '@holdfast/shared/config.ts'
import { HoldfastError, isHoldfastError, messageOf } from '@holdfast/shared/errors.ts'
import { makeLog } from '@holdfast/shared/log.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { CONFIG_NAMES, serverConfig } from './config.ts'
import type { ServerConfig } from './config.ts'
import { DATABASE_FILE, initServer } from './init.ts'
import type { InitResult } from './init.ts'
import { parts } from './parts.ts'
import { openSqliteRecords } from './records/sqlite-records.ts'
import { startServer } from './start.ts'

type Flags = Readonly<Record<string, string | boolean | undefined>>

process.umask(0o077)
const program = new Command('holdfast-server')
  .description('The control server of Holdfast: runs agents, keeps the record of every transmission and recovery, relays restores.')
  .addHelpText(
    'after',
    `
A server in three steps:
  holdfast-server init --admin alice       sets it up; asks for a password, shows a code for the authenticator
  holdfast-server start                    serves on http://127.0.0.1:8420; needs Redis with appendonly yes and noeviction
  holdfast-server backup /safe/holdfast.db copies its database while it runs

Every option can also stand in the environment (HOLDFAST_SERVER_DATA, ..._PORT, ..._REDIS) or in one JSON file (--config).
Exit codes: 0 done, 1 failed, 2 usage or configuration, 4 damage found, 10 newer database, 14 Redis away, 15 refused.`,
  )
  .exitOverride()

program
  .command('init')
  .description('set a server up: data directory, keys, database and the first administrator')
  .option('--data <dir>', 'where database and keys go (default: ~/.local/share/holdfast-server)')
  .option('--keys <dir>', 'where the key files go (default: keys in the data directory)')
  .option('--admin <name>', 'user name of the first administrator')
  .option('--json', 'print one JSON object')
  .addHelpText(
    'after',
    '\nThe password is asked for, or comes from HOLDFAST_SERVER_PASSWORD or the file named by HOLDFAST_SERVER_PASSWORD_FILE.',
  )
  .action(async (flags: Flags) => {
    const { json, admin, ...rest } = flags
    const config = configOf(rest, undefined)
    const secret = readSecret('HOLDFAST_SERVER_PASSWORD', process.env, (path) => readFileSync(path, 'utf8'))
    const userName = typeof admin === 'string' ? admin : await ask('User name of the first administrator: ', false)
    const password = secret ?? (await askPassword())
    const result = await initServer({
      data: config.data,
      keys: keysOf(config),
      userName,
      password,
      clock: systemClock,
      random: systemRandom,
    })
    process.stdout.write(json === true ? `${JSON.stringify(result)}\n` : describeInit(result))
  })

program
  .command('start')
  .description('serve API and console until SIGTERM or SIGINT')
  .option('--config <file>', 'read configuration from this JSON file')
  .option('--data <dir>', 'the data directory that init made')
  .option('--keys <dir>', 'where the key files are (default: keys in the data directory)')
  .option('--host <address>', 'listen here (default: 127.0.0.1)')
  .option('--port <number>', 'and on this port (default: 8420)')
  .option('--tls-cert <file>', 'certificate chain in PEM form')
  .option('--tls-key <file>', 'its key')
  .option('--behind-proxy', 'a proxy on the way ends TLS and sets X-Forwarded-For')
  .option('--redis <url>', 'the queue (default: redis://127.0.0.1:6379)')
  .option('--restore-hours <number>', 'a restore request expires after this (default: 72)')
  .option('--grace-minutes <number>', 'a backup is overdue this long after it was due (default: 60)')
  .option('--silent-minutes <number>', 'an agent is silent after this (default: 60)')
  .option('--undelete-days <number>', 'what retention lets go can be taken back this long (default: 14)')
  .option('--deletions-minutes <number>', 'how often stores are looked into for what is to be deleted (default: 10)')
  .action(async ({ config: file, ...flags }: Flags) => {
    const config = configOf(flags, typeof file === 'string' ? file : undefined)
    const log = makeLog({ program: 'holdfast-server', clock: systemClock, write: (line) => process.stdout.write(line) })
    const server = await startServer({ config, parts, clock: systemClock, random: systemRandom, log })
    await new Promise<void>((resolve) => {
      for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve())
    })
    log.info('stopping')
    await server.stop()
    log.info('stopped')
    // Idle connections and stuck jobs must not keep a stopped server alive.
    process.exit(0)
  })

program
  .command('backup')
  .description('copy the database into one new file, consistent, while the server runs, and check the copy')
  .argument('<file>', 'the new file')
  .option('--data <dir>', 'the data directory that init made')
  .option('--json', 'print one JSON object')
  .addHelpText(
    'after',
    '\nThe key files are not part of it: keep a copy of them elsewhere, or nobody can log in and no agent will trust the server.',
  )
  .action(async (file: string, { json, ...flags }: Flags) => {
    const config = configOf(flags, undefined)
    const database = join(config.data, DATABASE_FILE)
    if (!existsSync(database)) throw new HoldfastError('bad-config', `no server was set up in ${config.data}; give --data`)
    if (existsSync(file)) throw new HoldfastError('already-exists', `${file} is there already; name a new file`)
    const records = await openSqliteRecords(database)
    try {
      await records.backup(file)
    } finally {
      await records.close()
    }
    process.stdout.write(json === true ? `${JSON.stringify({ file })}\n` : `Copied and checked: ${file}\n`)
  })

try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = fail(error)
}

function fail(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  const json = process.argv.includes('--json')
  const code = isHoldfastError(error) ? error.code : 'failed'
  process.stderr.write(json ? `${JSON.stringify({ error: code, message: messageOf(error) })}\n` : `holdfast-server: ${messageOf(error)}\n`)
  if (!isHoldfastError(error) && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`)
  return isHoldfastError(error) ? error.exitCode : 1
}

function configOf(flags: Flags, file: string | undefined): ServerConfig {
  const base = process.env['XDG_DATA_HOME'] || join(homedir(), '.local', 'share')
  return readConfig(serverConfig, {
    file: file === undefined ? undefined : { location: file, text: readText(file) },
    env: { variables: { HOLDFAST_SERVER_DATA: join(base, 'holdfast-server'), ...process.env }, names: CONFIG_NAMES },
    flags,
  })
}

function keysOf(config: ServerConfig): string {
  return config.keys ?? join(config.data, 'keys')
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new HoldfastError('bad-config', `cannot read ${file}; check its path and permissions`, { cause })
  }
}

async function askPassword(): Promise<string> {
  const first = await ask('Password (at least 12 characters): ', true)
  if ((await ask('Once more: ', true)) !== first) throw new HoldfastError('usage', 'the two passwords differ; start again')
  return first
}

/** Asks on the terminal; what is secret is not shown while it is typed. */
async function ask(question: string, secret: boolean): Promise<string> {
  if (!process.stdin.isTTY)
    throw new HoldfastError(
      'usage',
      'there is no terminal to ask on; give --admin and HOLDFAST_SERVER_PASSWORD or HOLDFAST_SERVER_PASSWORD_FILE',
    )
  process.stderr.write(question)
  const hidden = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, output: secret ? hidden : process.stderr, terminal: true })
  try {
    return await lines.question('')
  } finally {
    lines.close()
    if (secret) process.stderr.write('\n')
  }
}

function describeInit(result: InitResult): string {
  return `${renderUnicodeCompact(result.otpauth)}

Set up in ${result.data}.
Administrator: ${result.userName}
Scan the code above with an authenticator, or enter this by hand; it is shown only now:
  ${result.otpauth}
Recovery codes, each good once; keep them apart from the authenticator:
  ${result.recoveryCodes.join('\n  ')}
Fingerprint of this server's key, which agents pin:
  ${result.fingerprint}

Next: holdfast-server start
`
}

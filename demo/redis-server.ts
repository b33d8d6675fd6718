// A private Redis on loopback, as the control server wants it: append-only file, noeviction, a folder and port of its own. Uses what is
// installed; else says what it fetches and fetches it: with apt as root, unpacked into a cache folder otherwise. Ends with its starter.
import type { ChildProcess } from 'node:child_process'
import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { systemClock } from '@holdfast/shared/clock.ts'
import { freePorts } from '../test/_support/ports.ts'

const run = promisify(execFile)
/** What a Debian 12 host without Redis lacks; unpacked side by side when there is no right to install. */
const UNPACK = ['redis-server', 'redis-tools', 'libatomic1', 'libjemalloc2', 'liblzf1', 'libssl3']
const START_LIMIT_MS = 30_000
/** One installation at a time, also of several test processes. */
const INSTALL_LOCK = join(tmpdir(), 'holdfast-redis-install.lock')
const INSTALLED = ['/usr/bin/redis-server', '/usr/local/bin/redis-server']

/** Where the program is: on the system, or unpacked below `root`. */
export type RedisProgram = { readonly path: string; readonly root: string | undefined }

export type RedisOptions = {
  /** Told, in one line, what is about to be fetched. */
  readonly say?: (line: string) => void
  readonly install?: boolean
  readonly cacheFolder?: string
}

export type RedisServer = {
  /** `redis://127.0.0.1:PORT`. */
  readonly url: string
  readonly port: number
  readonly folder: string
  readonly pid: () => number
  /** Runs one command and gives the reply's first line, for tests and the demo. */
  command(...words: string[]): Promise<string>
  /** Ends the process as a power cut would; the folder stays. */
  kill(): Promise<void>
  /** Starts it again on the same folder and port, and waits until it answers. */
  restart(): Promise<void>
  /** Ends it and removes its folder. */
  stop(): Promise<void>
}

/** Finds or fetches Redis; undefined, after saying why, where that cannot be done. */
export async function provideRedis(options: RedisOptions = {}): Promise<RedisProgram | undefined> {
  const say = options.say ?? (() => undefined)
  const installed = INSTALLED.find((path) => existsSync(path))
  if (installed !== undefined) return { path: installed, root: undefined }
  const root = options.cacheFolder ?? join(homedir(), '.cache', 'holdfast', 'redis')
  const unpacked = { path: join(root, 'usr/bin/redis-server'), root }
  if (existsSync(join(root, 'complete'))) return unpacked
  if (options.install === false) return undefined
  try {
    if (process.getuid?.() === 0) {
      say('Installing Redis with apt: redis-server and what it needs (about 1.5 MB to fetch, 8 MB on disk).')
      await apt(['install', '-y', '--no-install-recommends', 'redis-server'])
      return { path: '/usr/bin/redis-server', root: undefined }
    }
    say(`Fetching Redis (about 1.5 MB) and unpacking it into ${root} (8 MB); nothing is installed on the system.`)
    await unpack(root)
    return unpacked
  } catch (error) {
    say(`Redis cannot be had here: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)}`)
    return undefined
  }
}

async function apt(args: string[], cwd?: string): Promise<void> {
  const options = { maxBuffer: 64 * 1024 * 1024, ...(cwd === undefined ? {} : { cwd }) }
  const command = ['DEBIAN_FRONTEND=noninteractive', 'flock', INSTALL_LOCK, 'apt-get', '-o', 'DPkg::Lock::Timeout=300']
  try {
    await run('env', [...command, ...args], options)
  } catch (error) {
    // Fresh machines have no package lists; only root can fetch them.
    if (process.getuid?.() !== 0) throw error
    await run('env', [...command, 'update'], options)
    await run('env', [...command, ...args], options)
  }
}

/** Unpacks beside and renames, so that a half-finished tree is never used. */
async function unpack(root: string): Promise<void> {
  await mkdir(join(root, '..'), { recursive: true })
  const work = await mkdtemp(`${root}-`)
  try {
    const packages = join(work, 'packages')
    await mkdir(packages)
    await apt(['download', ...UNPACK], packages)
    for (const name of UNPACK) await run('sh', ['-c', `dpkg-deb -x "$1"/${name}_*.deb "$2"`, 'sh', packages, work])
    await rm(packages, { recursive: true })
    await writeFile(join(work, 'complete'), '')
    await rename(work, root).catch((error: unknown) => {
      // Another process was first.
      if (!existsSync(join(root, 'complete'))) throw error
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** Starts a fresh, empty Redis. `settings` change its configuration, e.g. `{ appendonly: 'no' }` in a test of what is refused. */
export async function startRedisServer(program: RedisProgram, settings: Readonly<Record<string, string>> = {}): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-redis-'))
  const [port = 0] = await freePorts(1)
  const redis = new Redis(program, folder, port, settings)
  try {
    await redis.start()
  } catch (error) {
    await redis.stop()
    throw error
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    folder,
    pid: () => redis.pid,
    command: (...words) => redis.command(words),
    kill: () => redis.kill(),
    restart: () => redis.start(),
    stop: () => redis.stop(),
  }
}

/** One Redis process at a time, in one folder. */
class Redis {
  readonly #program: RedisProgram
  readonly #folder: string
  readonly #port: number
  readonly #settings: Readonly<Record<string, string>>
  #child: ChildProcess | undefined
  readonly #atExit = (): void => void this.#child?.kill('SIGKILL')

  constructor(program: RedisProgram, folder: string, port: number, settings: Readonly<Record<string, string>>) {
    this.#program = program
    this.#folder = folder
    this.#port = port
    this.#settings = settings
    process.once('exit', this.#atExit)
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  async start(): Promise<void> {
    const settings = {
      port: String(this.#port),
      bind: '127.0.0.1',
      dir: this.#folder,
      appendonly: 'yes',
      appendfsync: 'everysec',
      'maxmemory-policy': 'noeviction',
      maxmemory: '256mb',
      save: '',
      daemonize: 'no',
      ...this.#settings,
    }
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])
    const { path, root } = this.#program
    const libraries =
      root === undefined
        ? []
        : ['env', `LD_LIBRARY_PATH=${join(root, 'usr/lib', process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu')}`]
    const log = await open(join(this.#folder, 'redis.out'), 'a')
    try {
      // The kernel ends the child if this process is killed and can clean up nothing.
      const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...libraries, path, ...args], { stdio: ['ignore', log.fd, log.fd] })
      await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject))
      this.#child = child
    } finally {
      await log.close()
    }
    const deadline = systemClock.monotonicMs() + START_LIMIT_MS
    // One with a password answers that it wants it: it is up.
    while (!/^(\+PONG|-NOAUTH)/.test(await this.command(['PING']).catch(() => ''))) {
      if (this.#ended() || systemClock.monotonicMs() > deadline) throw new Error(`Redis did not come up: ${await this.#lastWords()}`)
      await systemClock.sleep(20)
    }
  }

  /** One command over a connection of its own; the first line of the reply, such as `+OK` or `:1`. */
  command(words: readonly string[]): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port: this.#port })
      let reply = ''
      socket.setEncoding('utf8')
      socket.once('error', reject)
      socket.once('close', () => reject(new Error('Redis closed the connection')))
      socket.on('data', (text: string) => {
        reply += text
        const end = reply.indexOf('\r\n')
        if (end < 0) return
        resolve(reply.slice(0, end))
        socket.destroy()
      })
      socket.write(`*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`)
    })
  }

  async kill(): Promise<void> {
    const child = this.#child
    if (child === undefined || this.#ended()) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
  }

  async stop(): Promise<void> {
    process.removeListener('exit', this.#atExit)
    await this.kill()
    await rm(this.#folder, { recursive: true, force: true })
  }

  #ended(): boolean {
    return this.#child === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  async #lastWords(): Promise<string> {
    const path = join(this.#folder, 'redis.out')
    return existsSync(path) ? (await readFile(path, 'utf8')).slice(-500) : 'it said nothing'
  }
}

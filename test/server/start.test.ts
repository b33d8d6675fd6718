// Starting and stopping a server: only when everything is sound, with one line of what is wrong otherwise, and the command line around it.
import { execFile } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { get } from 'node:https'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readConfig } from '@holdfast/shared/config.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { silentLog } from '@holdfast/shared/log.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { CONFIG_NAMES, serverConfig } from 'holdfast-server/config.ts'
import { initServer } from 'holdfast-server/init.ts'
import type { Parts, WorkingQueue } from 'holdfast-server/parts.ts'
import { startServer } from 'holdfast-server/start.ts'
import { MemoryQueue } from '../_support/memory-queue.ts'
import { TestClock } from '../_support/test-clock.ts'

class TestQueue extends MemoryQueue implements WorkingQueue {
  worked = 0
  closed = 0
  async work(): Promise<void> {
    this.worked++
  }
  override async close(): Promise<void> {
    this.closed++
  }
}

let folder: string
let data: string
const clock = new TestClock()

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-start-'))
  data = join(folder, 'server')
  await initServer({ data, keys: join(data, 'keys'), userName: 'alice', password: 'correct horse battery', clock, random: systemRandom })
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function start(flags: Record<string, unknown>, queue = new TestQueue()) {
  const config = readConfig(serverConfig, { env: { variables: {}, names: CONFIG_NAMES }, flags: { data, port: '0', ...flags } })
  const parts: Parts = { openQueue: async () => queue, plugins: [] }
  return startServer({ config, parts, clock, random: systemRandom, log: silentLog })
}

describe('a server', () => {
  it('serves once database and queue are sound, and stops for good', async () => {
    const queue = new TestQueue()
    const server = await start({}, queue)
    expect(await (await fetch(`${server.address}/readyz`)).json()).toEqual({ status: 'ok' })
    queue.away = true
    const reply = await fetch(`${server.address}/readyz`)
    expect([reply.status, await reply.json()]).toEqual([503, { status: 'not-ready', what: 'queue' }])
    await server.stop()
    expect(queue).toMatchObject({ worked: 1, closed: 1 })
    await expect(fetch(`${server.address}/healthz`)).rejects.toThrow()
  })

  it('keeps its jobs apart from those of any other on the same Redis, which would fail them as not its own', async () => {
    const other = join(folder, 'other')
    const [queue, prefixes] = [new TestQueue(), [] as string[]]
    await initServer({
      data: other,
      keys: join(other, 'keys'),
      userName: 'bob',
      password: 'correct horse battery',
      clock,
      random: systemRandom,
    })
    for (const one of [data, other, data]) {
      const config = readConfig(serverConfig, { env: { variables: {}, names: CONFIG_NAMES }, flags: { data: one, port: '0' } })
      const openQueue: Parts['openQueue'] = async ({ prefix }) => {
        prefixes.push(prefix)
        return queue
      }
      await (await startServer({ config, parts: { openQueue, plugins: [] }, clock, random: systemRandom, log: silentLog })).stop()
    }
    expect(prefixes[0]).toBe(prefixes[2])
    expect(prefixes[0]).not.toBe(prefixes[1])
  })

  it.skipIf(!existsSync('/usr/bin/openssl'))('serves TLS alone where it is given a certificate', async () => {
    const [tlsCert, tlsKey] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
    const made = [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-days',
      '1',
      '-subj',
      '/CN=localhost',
      '-keyout',
      tlsKey,
      '-out',
      tlsCert,
    ]
    await promisify(execFile)('/usr/bin/openssl', made)
    const server = await start({ tlsCert, tlsKey })
    expect(server.address).toMatch(/^https:/)
    const status = await new Promise((resolve, reject) => {
      get(`${server.address}/healthz`, { ca: readFileSync(tlsCert), checkServerIdentity: () => undefined, agent: false }, (reply) => {
        reply.resume()
        resolve(reply.statusCode)
      }).once('error', reject)
    })
    expect(status).toBe(200)
    await expect(fetch(server.address.replace('https', 'http'))).rejects.toThrow()
    await server.stop()
    await expect(start({ tlsCert: tlsKey, tlsKey: tlsCert })).rejects.toMatchObject({ code: 'bad-config' })
  })

  it("does not start while the queue is unsound, says the queue's own line, and leaves nothing open", async () => {
    const queue = new TestQueue()
    queue.check = () => Promise.reject(new HoldfastError('bad-config', 'Redis has appendonly no; set appendonly yes'))
    await expect(start({}, queue)).rejects.toMatchObject({ code: 'bad-config', message: 'Redis has appendonly no; set appendonly yes' })
    expect(queue).toMatchObject({ worked: 0, closed: 1 })
  })

  it.each([
    ['on a public address without TLS', { host: '0.0.0.0' }, 'plain HTTP is served on loopback only'],
    ['with a certificate and no key', { tlsCert: '/x' }, 'TLS needs both'],
    ['with a certificate that is not there', { tlsCert: '/nowhere.pem', tlsKey: '/nowhere.key' }, 'cannot read /nowhere.pem'],
    ['in a folder that was not set up', { data: '/nowhere' }, 'run holdfast-server init first'],
  ])('does not start %s', async (_, flags, words) => {
    await expect(start(flags)).rejects.toMatchObject({ code: 'bad-config', message: expect.stringContaining(words) as string })
  })

  it('does not start on a port that is in use', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => other.once('listening', resolve))
    const { port } = other.address() as AddressInfo
    await expect(start({ port: String(port) })).rejects.toMatchObject({
      code: 'bad-config',
      message: expect.stringContaining(`port ${port} is in use`) as string,
    })
    other.close()
  })

  it('does not start with a key that others can read, or that is damaged', async () => {
    const key = join(data, 'keys', 'server.key')
    const text = readFileSync(key)
    chmodSync(key, 0o644)
    await expect(start({})).rejects.toMatchObject({ message: expect.stringContaining('can be read by others') as string })
    chmodSync(key, 0o600)
    writeFileSync(key, 'short')
    await expect(start({})).rejects.toMatchObject({ message: expect.stringContaining('no key of 32 bytes') as string })
    writeFileSync(key, text)
  })
})

describe('holdfast-server', () => {
  const run = async (args: string[], env: Record<string, string> = {}) => {
    const main = join(import.meta.dirname, '../../server/main.ts')
    try {
      const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...args], {
        env: { PATH: '/usr/bin:/bin', HOME: folder, ...env },
      })
      return { code: 0, stdout, stderr }
    } catch (error) {
      const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string }
      return { code, stdout, stderr }
    }
  }

  it('sets up once, private to its user, and shows the one-time secrets', async () => {
    const target = join(folder, 'by-command')
    const args = ['init', '--data', target, '--admin', 'bob', '--json']
    const first = await run(args, { HOLDFAST_SERVER_PASSWORD: 'correct horse battery' })
    expect(first).toMatchObject({ code: 0, stderr: '' })
    const result = JSON.parse(first.stdout) as { otpauth: string; recoveryCodes: string[]; fingerprint: string }
    expect(result.otpauth).toMatch(/^otpauth:\/\/totp\/Holdfast:bob\?/)
    expect(result.recoveryCodes).toHaveLength(10)
    for (const name of ['', 'keys', 'holdfast.db', 'keys/server.key', 'keys/sealing.key'])
      expect(statSync(join(target, name)).mode & 0o077).toBe(0)
    const again = await run(args, { HOLDFAST_SERVER_PASSWORD: 'correct horse battery' })
    expect(again.code).toBe(1)
    expect(JSON.parse(again.stderr)).toMatchObject({ error: 'already-exists' })
  })

  it('goes on where an interrupted init left keys and no administrator', async () => {
    const target = join(folder, 'interrupted')
    const options = {
      data: target,
      keys: join(target, 'keys'),
      userName: 'bob',
      password: 'correct horse battery',
      clock,
      random: systemRandom,
    }
    const broken = { ...options, random: { bytes: (length: number) => (length === 20 ? fail() : systemRandom.bytes(length)) } }
    await expect(initServer(broken)).rejects.toThrow('interrupted')
    const before = readFileSync(join(target, 'keys', 'server.key'))
    expect((await initServer(options)).userName).toBe('bob')
    expect(readFileSync(join(target, 'keys', 'server.key'))).toEqual(before)
    await expect(initServer(options)).rejects.toMatchObject({ code: 'already-exists' })
  })

  it('makes nothing where the password is too short or nobody can be asked', async () => {
    const target = join(folder, 'never')
    expect(await run(['init', '--data', target, '--admin', 'bob'], { HOLDFAST_SERVER_PASSWORD: 'short' })).toMatchObject({ code: 2 })
    expect(await run(['init', '--data', target, '--admin', 'bob'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('HOLDFAST_SERVER_PASSWORD') as string,
    })
    expect(existsSync(target)).toBe(false)
  })

  it('copies its database into a new file only', async () => {
    const copy = join(folder, 'copy.db')
    expect(await run(['backup', '--data', data, copy])).toMatchObject({ code: 0 })
    expect(statSync(copy).mode & 0o077).toBe(0)
    expect(await run(['backup', '--data', data, copy])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('is there already') as string,
    })
    expect(await run(['backup', '--data', join(folder, 'nowhere'), join(folder, 'other.db')])).toMatchObject({ code: 2 })
  })

  it.each([[['start', '--prot', '1']], [['serve']], [['start', '--port', 'many']]])('refuses %j with exit 2', async (args) => {
    expect((await run(args)).code).toBe(2)
  })

  it('teaches with --help', async () => {
    const { code, stdout } = await run(['--help'])
    expect(code).toBe(0)
    expect(stdout).toContain('A server in three steps')
  })
})

function fail(): never {
  throw new Error('interrupted')
}

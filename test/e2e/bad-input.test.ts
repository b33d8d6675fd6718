// Bad input and bad places, through the real processes: one clear line, the right code, nothing lost, nothing half-written. What one program alone
// can show stands in test/agent/cli/bad-input.test.ts and test/server/bad-input.test.ts.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmdirSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { S3Server } from '../../demo/s3-server.ts'
import { only, Workplace } from '../agent/cli/_support/cli.ts'
import { seededNumbers } from '../_support/awkward-tree.ts'
import { freePorts } from '../_support/ports.ts'
import { startRadosgw } from '../_support/radosgw.ts'
import { compareTrees } from '../_support/tree-manifest.ts'
import { type Installation, startInstallation } from './_support/installation.ts'
import { filesBelow } from './_support/leak-search.ts'

const MIB = 1024 * 1024
const canMount = mountable()
const next = seededNumbers(9)

type Env = Record<string, string | undefined>
type Made = { readonly work: Workplace; readonly source: string }

/** Ends with the code, with --json and without, and says so in one last line that holds what helps. */
async function refuses(work: Workplace, args: readonly string[], wanted: { exitCode: number; code: string; words: RegExp }, env: Env = {}) {
  const { summary, events } = await work.json(args, { env })
  expect({ exitCode: summary.exitCode, code: summary.code }, JSON.stringify(events)).toEqual({
    exitCode: wanted.exitCode,
    code: wanted.code,
  })
  expect(only(events, 'error')).toHaveLength(1)
  const { code, stderr } = await work.run(args, { env })
  expect(code).toBe(wanted.exitCode)
  const line = stderr.trimEnd().split('\n').at(-1) ?? ''
  expect(line).toMatch(/^holdfast: /)
  expect(line).toMatch(wanted.words)
  expect(stderr).not.toMatch(/ {4}at |undefined/)
  expect(controlsIn(stderr)).toEqual([])
}

/** The control characters in a text, but for the ends of lines. */
function controlsIn(text: string): number[] {
  return [...text].map((character) => character.codePointAt(0) ?? 0).filter((code) => (code < 0x20 && code !== 0x0a) || code === 0x7f)
}

function makeSource(work: Workplace, bytes: number): string {
  const source = work.path('source')
  mkdirSync(source)
  for (let i = 0; i < 4; i++) writeFileSync(join(source, `file-${i}`), noise(bytes / 4))
  return source
}

async function requireSound({ work, source }: Made, env: Env = {}): Promise<void> {
  expect((await work.json(['check', '--read-data'], { env })).summary).toMatchObject({ exitCode: 0 })
  const target = mkdtempSync(join(work.folder, 'restored-'))
  expect((await work.json(['restore', 'latest', '--target', target], { env })).summary).toMatchObject({ exitCode: 0 })
  expect(await compareTrees(source, join(target, source))).toEqual([])
}

describe.skipIf(!canMount)('a disk that is full or read-only', () => {
  let work: Workplace
  let source: string
  const mounted: string[] = []
  const mount = (path: string, options: string): void => {
    mkdirSync(path, { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'none', path])
    mounted.push(path)
  }

  beforeAll(() => {
    work = new Workplace()
    source = makeSource(work, 4 * MIB)
  })
  afterAll(() => {
    for (const path of mounted) execFileSync('umount', [path])
    work.close()
  })

  it('below the store: 14, no snapshot, nothing half-written, and the same command completes once there is room', async () => {
    mount(work.repo, 'size=12m,mode=0700')
    expect((await work.json(['init'])).summary.exitCode).toBe(0)
    expect((await work.json(['backup', source])).summary.exitCode).toBe(0)
    const before = readdirSync(join(work.repo, 'snapshots')).length
    for (let i = 0; i < 3; i++) writeFileSync(join(source, `more-${i}`), noise(12 * MIB))
    await refuses(work, ['backup', source], { exitCode: 14, code: 'store-full', words: /no space left/ })
    expect(readdirSync(join(work.repo, 'snapshots'))).toHaveLength(before)
    expect(filesBelow(work.repo).filter(({ name }) => /tmp|part/.test(name))).toEqual([])
    execFileSync('mount', ['-o', 'remount,size=96m', work.repo])
    const { summary } = await work.json(['backup', source])
    expect(summary).toMatchObject({ exitCode: 0 })
    expect(summary.counts?.['packsResumed']).toBeGreaterThan(0)
    await requireSound({ work, source })
  }, 60_000)

  it('below the spool: 1, no snapshot, and the same command completes elsewhere', async () => {
    const state = work.path('small state')
    mount(state, 'size=3m,mode=0700')
    writeFileSync(join(source, 'one more'), noise(9 * MIB))
    const before = readdirSync(join(work.repo, 'snapshots')).length
    await refuses(work, ['backup', source, '--state', state], { exitCode: 1, code: 'local-disk', words: /small state.*(?:room|space)/ })
    expect(readdirSync(join(work.repo, 'snapshots'))).toHaveLength(before)
    expect((await work.json(['backup', source])).summary).toMatchObject({ exitCode: 0 })
    await requireSound({ work, source })
  }, 60_000)

  it('as a store that is read-only: 14 for a backup, and a restore works', async () => {
    execFileSync('mount', ['-o', 'remount,ro', work.repo])
    writeFileSync(join(source, 'and another'), noise(1000))
    await refuses(work, ['backup', source], { exitCode: 14, code: 'store-refused', words: /EROFS|read-only/ })
    const target = work.path('from read-only')
    expect((await work.json(['restore', 'latest', '--target', target])).summary).toMatchObject({ exitCode: 0 })
    expect(existsSync(join(target, source, 'one more'))).toBe(true)
  }, 60_000)
})

describe('an S3 store', () => {
  let s3: S3Server
  let work: Workplace
  let source: string
  let owner: Env
  const reader = { AWS_ACCESS_KEY_ID: 'READERONLY', AWS_SECRET_ACCESS_KEY: 'only-reads-and-lists' }

  beforeAll(async () => {
    s3 = await startRadosgw()
    await s3.createBucket('bad', { versioning: true })
    const keys = [`--access-key=${reader.AWS_ACCESS_KEY_ID}`, `--secret-key=${reader.AWS_SECRET_ACCESS_KEY}`]
    await s3.admin('user', 'create', '--uid=reader', '--display-name=reader', ...keys)
    const Resource = ['arn:aws:s3:::bad', 'arn:aws:s3:::bad/*']
    await s3.setBucketPolicy('bad', {
      Version: '2012-10-17',
      Statement: [
        { Effect: 'Allow', Principal: { AWS: ['arn:aws:iam:::user/t'] }, Action: ['s3:*'], Resource },
        { Effect: 'Allow', Principal: { AWS: ['arn:aws:iam:::user/reader'] }, Action: ['s3:GetObject', 's3:ListBucket'], Resource },
      ],
    })
    work = new Workplace()
    source = makeSource(work, 2 * MIB)
    owner = { HOLDFAST_REPO: `s3:${s3.endpoint}/bad/one`, AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey }
    expect((await work.json(['init'], { env: owner })).summary.exitCode).toBe(0)
    expect((await work.json(['backup', source], { env: owner })).summary.exitCode).toBe(0)
  }, 60_000)
  afterAll(async () => {
    work?.close()
    await s3?.stop()
  })

  it('that refuses (403) is told with 14 and shows no secret; nothing of the run is there, and the next one completes', async () => {
    writeFileSync(join(source, 'new'), noise(300_000))
    const env = { ...owner, ...reader }
    await refuses(work, ['backup', source], { exitCode: 14, code: 'store-refused', words: /refus|denied|403/i }, env)
    const wrong = { ...owner, AWS_SECRET_ACCESS_KEY: 'this-is-not-the-secret' }
    await refuses(work, ['snapshots'], { exitCode: 14, code: 'store-refused', words: /^(?!.*not-the-secret)/ }, wrong)
    expect((await work.json(['snapshots'], { env: owner })).summary.counts).toMatchObject({ snapshots: 1 })
    expect((await work.json(['backup', source], { env: owner })).summary.exitCode).toBe(0)
    await requireSound({ work, source }, owner)
  }, 60_000)

  it('that is gone is told with 14, and the backup completes when it is back', async () => {
    const [port] = await freePorts(1)
    const gone = { ...owner, HOLDFAST_REPO: `s3:http://127.0.0.1:${port}/bad/one` }
    // Tried again for a while first, so this is asked once.
    const { code, stderr } = await work.run(['backup', source], { env: gone })
    expect(code).toBe(14)
    expect(stderr.trimEnd().split('\n').at(-1)).toMatch(/^holdfast: .*127\.0\.0\.1/)
    expect((await work.json(['backup', source], { env: owner })).summary).toMatchObject({ exitCode: 0, counts: { bytesNew: 0 } })
  }, 60_000)
})

describe('objects that are not what they should be', () => {
  let work: Workplace
  let source: string
  const replace = (path: string, bytes: Buffer): void => {
    writeFileSync(`${path}.new`, bytes)
    renameSync(`${path}.new`, path)
  }
  const objects = (folder: string): string[] =>
    filesBelow(join(work.repo, folder))
      .map(({ name }) => join(work.repo, folder, name))
      .sort((a, b) => statSync(b).size - statSync(a).size)

  beforeAll(async () => {
    work = new Workplace()
    source = makeSource(work, 2 * MIB)
    await work.json(['init'])
    await work.json(['backup', source])
    writeFileSync(join(source, 'second'), noise(2 * MIB))
    await work.json(['backup', source])
  })
  afterAll(() => work.close())

  it('of a newer format are told as that, and nothing is changed', async () => {
    for (const folder of ['snapshots', 'index', 'sessions']) {
      const [path = ''] = objects(folder)
      const bytes = readFileSync(path)
      const newer = Buffer.from(bytes)
      newer.writeUInt8(2, 8)
      replace(path, newer)
      const { summary, events } = await work.json(['check'])
      expect([3, 4, 10], `${folder}: ${JSON.stringify(events)}`).toContain(summary.exitCode)
      expect(JSON.stringify(events), folder).toMatch(/newer/)
      expect(readFileSync(path).equals(newer)).toBe(true)
      replace(path, bytes)
    }
    expect((await work.json(['check', '--read-data'])).summary.exitCode).toBe(0)
  }, 60_000)

  it('put in the place of another are found: 4, and a restore gives nothing false', async () => {
    const [one = '', two = ''] = objects('packs')
    const [first, second] = [readFileSync(one), readFileSync(two)]
    replace(one, second)
    replace(two, first)
    expect((await work.json(['check', '--read-data'])).summary).toMatchObject({ exitCode: 4, result: 'damaged' })
    const target = work.path('from swapped')
    const { summary, events } = await work.json(['restore', 'latest', '--target', target])
    expect([3, 4]).toContain(summary.exitCode)
    expect(only(events, 'problem').length + only(events, 'error').length).toBeGreaterThan(0)
    const there = existsSync(join(target, source)) ? filesBelow(join(target, source)) : []
    for (const { name, bytes } of there) expect(bytes.equals(readFileSync(join(source, name))), name).toBe(true)
    replace(one, first)
    replace(two, second)
    await requireSound({ work, source })
  }, 60_000)

  it('whose snapshots were swapped are found', async () => {
    const [one = '', two = ''] = objects('snapshots')
    const [first, second] = [readFileSync(one), readFileSync(two)]
    replace(one, second)
    replace(two, first)
    expect((await work.json(['check'])).summary).toMatchObject({ exitCode: 4, result: 'damaged' })
    replace(one, first)
    replace(two, second)
    await requireSound({ work, source })
  }, 60_000)

  it('with names of control characters are shown harmlessly by every command, and come back as they are', async () => {
    const name = 'bell\u0007 and \u001b]0;title\u0007 and \u001b[2J\nline'
    writeFileSync(join(source, name), 'x')
    const target = work.path('from controls')
    for (const args of [
      ['backup', source],
      ['ls', 'latest'],
      ['ls', '--long', 'latest'],
      ['restore', 'latest', '--target', target],
    ]) {
      const { code, text, stderr } = await work.run(args)
      expect(code, stderr).toBe(0)
      expect(controlsIn(`${text}${stderr}`)).toEqual([])
    }
    expect(await compareTrees(source, join(target, source))).toEqual([])
  }, 60_000)
})

describe('a control server and an appliance', () => {
  let one: Installation
  let administrator: Installation['api']
  const bare = (folder: string): Env => ({ HOLDFAST_AGENT_DIR: folder, HOLDFAST_REPO: undefined, HOLDFAST_PASSWORD: undefined })
  const secret = '/home/somebody/a-very-private-name.odt'

  beforeAll(async () => {
    one = await startInstallation({ source: (place) => makeSource(place, MIB) })
    administrator = one.api
  }, 120_000)
  afterAll(() => one?.close())

  const call = (path: string, token: string, body?: string): Promise<Response> =>
    fetch(`${one.url}${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'idempotency-key': 'e2e' },
      ...(body === undefined ? {} : { body }),
    })

  it('refuse a plain path with 422 and keep it nowhere', async () => {
    const { agentId, customer } = one
    const body = { agentId, snapshotId: '0'.repeat(32), restoreRoot: 'desk', conflict: 'beside', purpose: 'restore' }
    for (const more of [{ paths: [secret] }, { selection: { path: secret } }, { selection: { whole: true }, restoreRoot: secret }]) {
      const reply = await call('/v1/restores', customer.token, JSON.stringify({ ...body, instructionId: customer.instructionId, ...more }))
      expect(reply.status).toBe(422)
      expect(await reply.text()).not.toContain('private-name')
    }
    expect((await call(`/v1/restores?path=${encodeURIComponent(secret)}`, customer.token)).status).toBe(422)
    expect((await call(encodeURI(secret), customer.token)).status).toBe(404)
    for (const folder of [one.place.path('server'), one.redis.folder])
      for (const { name, bytes } of filesBelow(folder)) expect(bytes.includes('private-name'), name).toBe(false)
    expect(one.log('server')).not.toContain('private-name')
  })

  it('refuse an oversized body with 413 before they read it all, and go on serving', async () => {
    const reply = await call('/v1/restores', one.customer.token, `{"paths":"${'x'.repeat(3 * MIB)}"}`)
    expect(reply.status).toBe(413)
    // Announced as endless and cut off: answered or closed, never waited for.
    const answer = await raw(
      one.port,
      `POST /v1/log-in HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999999999\r\n\r\n{`,
    )
    expect(answer).toMatch(/^HTTP\/1\.1 413/)
    expect((await fetch(`${one.url}/readyz`)).status).toBe(200)
  })

  it('give nothing to the token of another controller', async () => {
    const { id: controllerId } = await administrator.post<{ id: string }>('/v1/controllers', { name: 'Another customer' })
    const { token } = await administrator.post<{ token: string }>('/v1/api-tokens', { name: 'foreign', scope: { controllerId } })
    for (const path of [`/v1/agents/${one.agentId}`, `/v1/policies/${one.policyId}`]) expect((await call(path, token)).status).toBe(404)
    for (const path of ['/v1/agents', '/v1/runs', '/v1/records', '/v1/snapshots'])
      expect(await (await call(path, token)).json()).toMatchObject({ items: [] })
    expect(await (await call('/v1/records/export', token)).text()).toBe('')
    const now = await call(`/v1/agents/${one.agentId}/backup-now`, token, JSON.stringify({ policyId: one.policyId }))
    expect([403, 404]).toContain(now.status)
    expect((await call('/v1/agents', `tok_${'0'.repeat(32)}.${'A'.repeat(43)}`)).status).toBe(401)
  })

  it('enrol nobody with a code that was used, has expired or was mistyped; the appliance keeps nothing', async () => {
    const folder = emptyAppliance(one.place, 'second appliance')
    const { controllerId, enrolmentCode } = one.customer
    const { items } = await administrator.get<{ items: { id: string }[] }>('/v1/sites')
    const { id, code } = await administrator.post<{ id: string; code: string }>('/v1/enrolment-codes', {
      controllerId,
      siteId: items[0]!.id,
    })
    expireCode(one.place.path('server', 'holdfast.db'), id)
    const enroll = (which: string): string[] => ['enroll', which, '--server', one.url, '--no-wait']
    const words = { exitCode: 15, code: 'forbidden', words: /ask for a fresh one/ }
    await refuses(one.place, enroll(enrolmentCode), words, bare(folder))
    await refuses(one.place, enroll(code), words, bare(folder))
    const { summary } = await one.place.json(enroll(`${code.slice(0, -1)}${code.endsWith('a') ? 'b' : 'a'}`), { env: bare(folder) })
    expect([2, 15]).toContain(summary.exitCode)
    expect(readdirSync(folder)).toEqual(['agent.json'])
  }, 60_000)

  it('that is dead while somebody enrols: 14, nothing kept, and the code is still good', async () => {
    const folder = emptyAppliance(one.place, 'third appliance')
    const { controllerId } = one.customer
    const { items } = await administrator.get<{ items: { id: string }[] }>('/v1/sites')
    const { code } = await administrator.post<{ code: string }>('/v1/enrolment-codes', { controllerId, siteId: items[0]!.id })
    await one.killServer()
    const words = { exitCode: 14, code: 'server-unreachable', words: /127\.0\.0\.1|server/ }
    await refuses(one.place, ['enroll', code, '--server', one.url, '--no-wait'], words, bare(folder))
    expect(readdirSync(folder)).toEqual(['agent.json'])
    await one.startServer()
    const { summary } = await one.place.json(['enroll', code, '--server', one.url, '--no-wait'], { env: bare(folder) })
    expect(summary).toMatchObject({ exitCode: 0, state: 'waiting' })
  }, 60_000)

  it('of which the server is another than was pinned are not believed, in any word', async () => {
    const folder = join(one.place.folder, 'third appliance')
    const path = join(folder, 'identity.json')
    const before = readFileSync(path, 'utf8')
    const identity = JSON.parse(before) as { serverPublicKey: string }
    const other = Buffer.from(identity.serverPublicKey, 'base64url').reverse().toString('base64url')
    writeFileSync(path, JSON.stringify({ ...identity, serverPublicKey: other }), { mode: 0o600 })
    const fingerprint = ['aaaa', 'bbbb', 'cccc', 'dddd', 'eeee', 'ffff', 'gggg', 'hhhh'].join('-')
    const args = ['enroll', '--domain', fingerprint, '--no-wait']
    await refuses(
      one.place,
      args,
      { exitCode: 15, code: 'server-untrusted', words: /does not carry the signature of the server/ },
      bare(folder),
    )
    expect(readdirSync(folder)).not.toContain('bundle')
    // A code that is none is not even sent.
    const fresh = emptyAppliance(one.place, 'fourth appliance')
    await refuses(one.place, ['enroll', 'hf1-not-a-code', '--server', one.url], { exitCode: 2, code: 'usage', words: /code/ }, bare(fresh))
  }, 60_000)
})

function emptyAppliance(place: Workplace, name: string): string {
  const folder = place.path(name)
  mkdirSync(folder, { mode: 0o700 })
  writeFileSync(join(folder, 'agent.json'), JSON.stringify({ host: 'another' }), { mode: 0o600 })
  return folder
}

/** What only time could do: a code whose end is past. */
function expireCode(database: string, id: string): void {
  const db = new DatabaseSync(database)
  try {
    const { changes } = db.prepare('UPDATE enrolment_codes SET expires_at = 1 WHERE id = ?').run(id)
    expect(changes).toBe(1)
  } finally {
    db.close()
  }
}

/** Everything that a server answers to some bytes until it closes or has answered. */
function raw(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port })
    let answer = ''
    socket.setEncoding('utf8')
    socket.once('error', reject)
    socket.once('close', () => resolve(answer))
    socket.on('data', (part: string) => {
      answer += part
      if (answer.includes('\r\n\r\n')) socket.destroy()
    })
    socket.write(text)
  })
}

function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE(next(), at)
  return bytes
}

/** Whether this process may mount: root of a machine, but not of every container. */
function mountable(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-mount-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', 'none', folder], { stdio: 'ignore' })
    execFileSync('umount', [folder])
    return true
  } catch (error) {
    if (error instanceof Error) return false
    throw error
  } finally {
    rmdirSync(folder)
  }
}

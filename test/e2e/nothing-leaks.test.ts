// Obligations O10, O14 and O20, shown on the bytes: store, control server, Redis, the traffic between agent and server, logs and the appliance's own
// state, each searched for every name, path and content of what was backed up; and a copy of the appliance opens nothing of history.
import { appendFileSync, chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemRandom } from '@holdfast/shared/random.ts'
import { decodeSessionEntry, rootKeys, SESSION_ENTRY_LENGTH } from '../../agent/keys/domain.ts'
import { hkdf } from '../../agent/keys/primitives.ts'
import { createTokens } from '../../agent/repository/snapshot.ts'
import { openBox } from '../../agent/repository/structure-box.ts'
import { compareTrees } from '../_support/tree-manifest.ts'
import { rootOfDomain } from './_support/domain-root.ts'
import { type Installation, startInstallation } from './_support/installation.ts'
import { filesBelow, formsOf, type LeakSearch, leakSearch } from './_support/leak-search.ts'
import { BYTE_MARKS, makeMarkedTree, markedContent, markedFile, markedNoise, MARKS } from './_support/marked-tree.ts'
import { type RecordingProxy, startRecordingProxy } from './_support/recording-proxy.ts'
import { lookIntoSpool } from './_support/spool.ts'
import { until } from './_support/until.ts'

let one: Installation
let proxy: RecordingProxy
let files: number
let first: { id: string; snapshotId: string }
let second: { id: string; snapshotId: string }
const search: LeakSearch = leakSearch({ ...MARKS, ...BYTE_MARKS })
/** Two files in two directories, asked for by name. */
const wanted = [markedFile(2, 4), markedFile(5, 0)]

beforeAll(async () => {
  one = await startInstallation({
    source: (place) => {
      const source = place.path(MARKS.path)
      files = makeMarkedTree(source)
      return source
    },
    serverUrl: async (port) => {
      proxy = await startRecordingProxy(() => port)
      return proxy.url
    },
  })
  one.startGranting()
}, 120_000)

afterAll(async () => {
  await proxy?.close()
  await one?.close()
})

const recorded = async (runId: string): Promise<{ id: string; snapshotId: string }> => {
  const { id, snapshotId, state } = await one.recordedRun(runId)
  expect(state).toBe('ok')
  return { id, snapshotId: snapshotId ?? '' }
}

describe('an installation that has done everything once', () => {
  it('has backed up twice, restored two files by name and then the whole', async () => {
    one.startDaemon()
    first = await recorded(await one.nextRun(new Set()))
    appendFileSync(join(one.source, markedFile(0, 0)), markedContent(9, 500))
    writeFileSync(join(one.source, `${MARKS.name}-new`), markedContent(10, 70_000))
    rmSync(join(one.source, markedFile(1, 1)))
    second = await recorded(await one.backupNow())
    expect((await one.runs()).find(({ id }) => id === second.id)?.recordedFiles).toBe(2)

    const paths = wanted.map((path) => join(one.source, path))
    const part = await one.request(second.snapshotId, paths)
    expect(await one.endedRestore(part)).toBe('completed')
    const restored = join(one.place.path('desk'), one.source)
    for (const path of wanted) expect(readFileSync(join(restored, path))).toEqual(readFileSync(join(one.source, path)))
    expect(existsSync(join(restored, markedFile(3, 3)))).toBe(false)

    const whole = await one.request(second.snapshotId)
    expect(await one.endedRestore(whole)).toBe('completed')
    expect(await compareTrees(one.source, restored)).toEqual([])
    const recoveries = await until('both recoveries are recorded', async () => {
      const found = (await one.runs()).filter(({ kind, recorded }) => kind === 'recovery' && recorded)
      return found.length === 2 && found
    })
    expect(recoveries.map(({ state }) => state)).toEqual(['ok', 'ok'])
  })
})

describe('the search itself', () => {
  it('finds every word where it must be, in every form', () => {
    const inSource = filesBelow(one.source).flatMap(({ name, bytes }) => search(name, Buffer.concat([Buffer.from(name, 'latin1'), bytes])))
    for (const what of ['directory', 'name', 'byteName', 'content', 'bytes'])
      expect(
        inSource.some((line) => line.endsWith(`: ${what}, as it is`)),
        what,
      ).toBe(true)
    for (const word of [...Object.values(MARKS), ...Object.values(BYTE_MARKS)])
      for (const [form, bytes] of formsOf(Buffer.from(word)))
        expect(search('', Buffer.concat([Buffer.from('before'), bytes, Buffer.from('after')])), form).not.toEqual([])
    for (const encoding of ['base64', 'base64url'] as const)
      for (let shift = 0; shift < 3; shift++) {
        const text = Buffer.concat([systemRandom.bytes(30 + shift), Buffer.from(MARKS.name), systemRandom.bytes(31)]).toString(encoding)
        expect(search('', Buffer.from(text))).not.toEqual([])
      }
  })
})

describe('no name, path or content of what was backed up', () => {
  it('is in the store', () => {
    const objects = filesBelow(one.place.repo)
    expect(objects.filter(({ name }) => name.startsWith('packs/')).length).toBeGreaterThan(1)
    expect(objects.filter(({ name }) => name.startsWith('snapshots/'))).toHaveLength(2)
    expect(objects.flatMap(({ name, bytes }) => search(`store ${name}`, Buffer.concat([Buffer.from(name), bytes])))).toEqual([])
  })

  it('is on the disk of the server, which holds its token', async () => {
    const held = filesBelow(one.place.path('server'))
    expect(held.map(({ name }) => name)).toContain('holdfast.db')
    expect(held.flatMap(({ name, bytes }) => search(`server ${name}`, bytes))).toEqual([])
    // The search looks at the right place: what stands for a name is there.
    const token = createTokens(rootKeys(await rootOfDomain(one.place.path('controller', 'domain'))).write.structure.recordKey).path(
      Buffer.from(join(one.source, wanted[0]!)),
    )
    expect(held.some(({ bytes }) => bytes.includes(Buffer.from(token, 'hex')))).toBe(true)
  })

  it('is in Redis: not on its disk, where every job it ever had was written, and not in any key', async () => {
    const onDisk = filesBelow(one.redis.folder)
    const all = Buffer.concat(onDisk.map(({ bytes }) => bytes))
    for (const queue of ['transmissions', 'recoveries', 'restores']) expect(all.includes(`:${queue}:`), queue).toBe(true)
    expect(onDisk.flatMap(({ name, bytes }) => search(`redis ${name}`, bytes))).toEqual([])
    const keys = await everyKey()
    expect(keys.length).toBeGreaterThan(5)
    expect(keys.flatMap(({ key, value }) => search(`redis key ${key}`, Buffer.concat([Buffer.from(key), value])))).toEqual([])
  })

  it('is in a job: jobs hold ids and numbers and nothing else', async () => {
    const jobs = (await everyKey()).filter(({ data }) => data !== undefined)
    expect(jobs.length).toBeGreaterThan(3)
    const allowed = /^(?:(?:ag|rst)_[0-9a-f]{32}|\d+)$/
    const values = jobs.flatMap(({ data }) => Object.values(JSON.parse(data ?? '{}') as Record<string, unknown>).map(String))
    expect(values.filter((value) => !allowed.test(value))).toEqual([])
  })

  it('went over the wire between agent, controller and server', () => {
    const { sent, answered } = proxy.recorded()
    const requests = Buffer.concat(sent)
    expect(requests.includes(`POST /v1/agent`)).toBe(true)
    expect(requests.length).toBeGreaterThan(files * 64)
    for (const [direction, connections] of Object.entries({ sent, answered }))
      expect(connections.flatMap((bytes, i) => search(`${direction} ${i}`, bytes))).toEqual([])
  })

  it('is in a log of server or agent', () => {
    for (const name of ['server', 'agent'] as const) {
      expect(one.log(name)).not.toBe('')
      expect(search(`log of the ${name}`, Buffer.from(one.log(name)))).toEqual([])
    }
  })
})

describe('a copy of the disk of the appliance', () => {
  let copy: string

  beforeAll(async () => {
    // Taken in the middle of a run, with packs in the spool.
    const noise = join(one.source, `${MARKS.name}-large`)
    for (let i = 0; i < 6; i++) appendFileSync(noise, markedNoise(100 + i, 16 * 1024 * 1024))
    await one.askForBackup()
    const state = one.place.path('agent', 'engine')
    await until('something is in the spool', () => [...lookIntoSpool(state).open.values()].some((bytes) => bytes > 1_000_000), {
      everyMs: 2,
    })
    await one.killDaemon()
    expect(
      (await one.runs()).filter(({ snapshotId }) => snapshotId !== null),
      'killed before the end',
    ).toHaveLength(2)
    copy = one.place.path('stolen')
    cpSync(one.place.path('agent'), copy, { recursive: true })
    chmodSync(copy, 0o700)
  })

  it('holds no name and no content; the path of the source stands in agent.json alone', () => {
    const state = filesBelow(copy)
    const names = state.map(({ name }) => name)
    for (const kind of [/^engine\/unchanged-/, /^engine\/spool\/./, /^journal\/./, /^identity\.json$/, /^bundle$/])
      expect(
        names.some((name) => kind.test(name)),
        String(kind),
      ).toBe(true)
    const found = state.flatMap(({ name, bytes }) => search(name, Buffer.concat([Buffer.from(`${name}\n`), bytes])))
    expect(found).toEqual(['agent.json: path, as it is'])
  })

  it('holds no key that opens anything: neither root nor content keys, no session key, no key of a restore', async () => {
    const { root, domainId } = await rootOfDomain(one.place.path('controller', 'domain'))
    const keys = rootKeys({ root, domainId })
    // One session for each backup, also for the one that was killed: its key was in memory alone.
    const sessions = filesBelow(one.place.repo).filter(({ name }) => name.startsWith('sessions/'))
    expect(sessions).toHaveLength(3)
    const sessionKeys = sessions.map(({ name, bytes }) => {
      const { body } = openBox({ type: 'session', keys: keys.write.structure, object: bytes, what: name })
      return keys.sessionKey(decodeSessionEntry(body.subarray(0, SESSION_ENTRY_LENGTH)))
    })
    const info = (label: string, epoch: number): Buffer => {
      const number = Buffer.alloc(4)
      number.writeUInt32LE(epoch)
      return Buffer.concat([Buffer.from(`holdfast/1 ${label}`), number])
    }
    const secrets: Record<string, Buffer> = {
      root,
      ...Object.fromEntries(
        ['content', 'sign', 'writer'].flatMap((label) =>
          [0, 1].map((epoch) => [`${label} ${epoch}`, hkdf(root, domainId, info(label, epoch))]),
        ),
      ),
      ...Object.fromEntries(sessionKeys.map((key, i) => [`session ${i}`, key])),
    }
    const lookFor = leakSearch(secrets)
    expect(filesBelow(copy).flatMap(({ name, bytes }) => lookFor(name, bytes))).toEqual([])
    // The search would see a key that is there: the appliance does hold the record key, inside its sealed bundle, and its own seed in the open.
    const { seed } = JSON.parse(readFileSync(join(copy, 'identity.json'), 'utf8')) as { seed: string }
    expect(filesBelow(copy).flatMap(({ name, bytes }) => leakSearch({ seed: Buffer.from(seed, 'base64url') })(name, bytes))).not.toEqual([])
    const restores = filesBelow(copy).filter(({ name }) => name.startsWith('restore-'))
    expect(restores.filter(({ bytes }) => bytes.includes('"seed"')).map(({ name }) => name)).toEqual([])
  })

  it('opens nothing of history: every command that reads is refused and writes nothing', async () => {
    const env = { HOLDFAST_AGENT_DIR: copy, HOLDFAST_REPO: one.store, HOLDFAST_PASSWORD: undefined, HOME: one.place.path('home') }
    mkdirSync(one.place.path('loot'))
    const listed = await one.place.json(['snapshots'], { env })
    expect(listed.events.filter(({ event }) => event === 'snapshot')).toMatchObject([{ opened: false }, { opened: false }])
    expect(search('snapshots', Buffer.from(JSON.stringify(listed.events)))).toEqual([])
    for (const id of [first.snapshotId, second.snapshotId])
      for (const args of [
        ['ls', id],
        ['restore', id, '--target', one.place.path('loot', 'whole')],
        ['restore', id, '--target', one.place.path('loot', 'part'), '--path', join(one.source, wanted[0]!)],
        ['dump', id, join(one.source, wanted[0]!), '-o', one.place.path('loot', 'file')],
      ]) {
        const { summary, events } = await one.place.json(args, { env })
        expect(summary).toMatchObject({ exitCode: 15, code: 'grant-required' })
        expect(events.filter(({ event }) => event === 'entry')).toEqual([])
      }
    expect(readdirSync(one.place.path('loot'))).toEqual([])
  })
})

/** Everything that Redis holds at this moment, each value as its bytes; `data` is what a job was given. */
async function everyKey(): Promise<{ key: string; value: Buffer; data: string | undefined }[]> {
  const redis = new Redis(one.redis.url)
  try {
    const found: { key: string; value: Buffer; data: string | undefined }[] = []
    for (const key of await redis.keys('*')) {
      const type = await redis.type(key)
      const read = {
        string: ['GET', key],
        hash: ['HGETALL', key],
        list: ['LRANGE', key, '0', '-1'],
        set: ['SMEMBERS', key],
        zset: ['ZRANGE', key, '0', '-1', 'WITHSCORES'],
        stream: ['XRANGE', key, '-', '+'],
      }[type]
      if (read === undefined) throw new Error(`a key of type ${type}`)
      const value = flat(await redis.callBuffer(read[0]!, ...read.slice(1)))
      const data = type === 'hash' ? await redis.hget(key, 'data') : null
      found.push({ key, value, data: data ?? undefined })
    }
    return found
  } finally {
    redis.disconnect()
  }
}

/** The bytes of a reply, one part after the other. */
function flat(reply: unknown): Buffer {
  if (Buffer.isBuffer(reply)) return Buffer.concat([reply, Buffer.from('\n')])
  if (Array.isArray(reply)) return Buffer.concat(reply.map(flat))
  return Buffer.from(`${String(reply)}\n`)
}

// What a storage does on its bad days, and what the S3 store makes of it: retries, lost answers, stalls, lies.
import { randomFillSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { openS3Store } from '@holdfast/shared/store/s3-store.ts'
import type { S3StoreConfig } from '@holdfast/shared/store/s3-store.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import type { FakeFault, FakeS3, FakeS3Options } from '../../_support/fake-s3.ts'
import { startFakeS3 } from '../../_support/fake-s3.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { bytesBody, expectCode, fileBody, listAll } from '../../contract/store-contract.ts'

const credentials = { accessKeyId: 'AKTEST', secretAccessKey: 'a-secret-that-must-not-show' }
const STALL_MS = 120_000

/** The fault for the first `times` requests of an operation. */
function first(operation: string, times: number, fault: FakeFault): (request: { operation: string }) => FakeFault | undefined {
  let left = times
  return (request) => (request.operation === operation && left-- > 0 ? fault : undefined)
}

const count = (server: FakeS3, operation: string): number => server.requests.filter((r) => r.operation === operation).length

const entry = (key: string, size: string): string =>
  `<Contents><Key>${key}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified><Size>${size}</Size></Contents>`

describe('an S3 store', () => {
  let folder: string
  const open: { stop(): Promise<void> }[] = []

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-s3-store-'))
  })
  afterEach(async () => {
    for (const each of open.splice(0)) await each.stop()
    await rm(folder, { recursive: true })
  })

  /** A fake server and a store on it, on a clock where backoffs pass at once and stalls only when told. */
  async function start(
    options: Partial<FakeS3Options> = {},
    config: Partial<S3StoreConfig> = {},
  ): Promise<{ server: FakeS3; store: Store; clock: ReturnType<typeof simulatedClock> }> {
    const server = await startFakeS3({ now: systemClock.now, ...options })
    const clock = simulatedClock({ autoMs: 60_000 })
    const store = await openS3Store(
      { endpoint: server.endpoint, bucket: server.bucket, credentials, prefix: 'repo', stallMs: STALL_MS, ...config },
      { clock, random: seededRandom('s3') },
    )
    open.push({ stop: () => store.close().then(() => server.stop()) })
    return { server, store, clock }
  }

  test.each([
    { kind: 'answer', status: 500 },
    { kind: 'answer', status: 503, code: 'SlowDown', retryAfter: 3 },
    { kind: 'answer', status: 429 },
    { kind: 'answer', status: 409, code: 'ConditionalRequestConflict' },
    { kind: 'answer', status: 400, code: 'RequestTimeout' },
    { kind: 'reset', afterBytes: 0 },
    { kind: 'reset', afterBytes: 1_000_000 },
  ] as FakeFault[])('opens the spool again and sends a body until it is taken: %o', async (fault) => {
    const { server, store } = await start()
    const bytes = randomFillSync(Buffer.alloc(2_000_000))
    server.setFaults(first('put', 3, fault))
    let progress = 0
    const body = await fileBody(join(folder, 'spool'), bytes)
    expect(await store.put('packs/a', body, { progress: (n) => (progress += n) })).toEqual({ created: true })
    expect(count(server, 'put')).toBe(4)
    expect(server.objects.get('repo/packs/a')?.bytes.equals(bytes)).toBe(true)
    expect(progress).toBe(bytes.length)
  })

  test('does not send a pack twice whose answer was lost', async () => {
    const { server, store } = await start()
    server.setFaults(first('put', 1, { kind: 'lost-answer' }))
    const body = await fileBody(join(folder, 'spool'), randomFillSync(Buffer.alloc(1_000_000)))
    expect(await store.put('packs/a', body)).toEqual({ created: false })
    expect(count(server, 'put')).toBe(1)
  })

  test('reports a small object whose answer was lost as taken, and never overwrites it', async () => {
    const { server, store } = await start()
    server.setFaults(first('put', 1, { kind: 'lost-answer' }))
    expect(await store.put('keys/a', bytesBody('mine'))).toEqual({ created: false })
    expect((await store.get('keys/a', { limitBytes: 9 })).toString()).toBe('mine')
  })

  test('gives up after its tries and says that the store is unreachable', async () => {
    const { server, store } = await start({}, { retry: { attempts: 3, baseMs: 10, capMs: 100 } })
    server.setFaults(() => ({ kind: 'answer', status: 503, code: 'SlowDown' }))
    await expectCode(store.put('a', bytesBody('x')), 'store-unreachable')
    await expectCode(store.get('a', { limitBytes: 1 }), 'store-unreachable')
    await expectCode(store.head('a'), 'store-unreachable')
    await expectCode(listAll(store), 'store-unreachable')
    expect(server.requests.length).toBe(12)
  })

  test('a refusal is not tried again and shows no secret', async () => {
    const { server, store } = await start()
    server.setFaults(() => ({ kind: 'answer', status: 403, code: 'AccessDenied' }))
    const error = await store.put('a', bytesBody('x')).catch((e: unknown) => e)
    expect(error).toMatchObject({ code: 'store-refused' })
    expect(String(error)).not.toContain(credentials.secretAccessKey)
    expect(server.requests.length).toBe(1)
    server.setFaults(() => ({ kind: 'answer', status: 301, code: 'PermanentRedirect' }))
    await expectCode(store.get('a', { limitBytes: 9 }), 'store-refused')
  })

  test('an object that was moved to an archive is told as that, and not as want of rights', async () => {
    const { server, store } = await start()
    server.setFaults(() => ({ kind: 'answer', status: 403, code: 'InvalidObjectState' }))
    const read = store.getRange('a', { offset: 0, length: 1 })
    await expect(read).rejects.toMatchObject({
      code: 'store-refused',
      message: expect.stringMatching(/archive; have the store restore it/),
    })
  })

  test('takes an early refusal of a large body for what it is', async () => {
    const { server, store } = await start()
    server.setFaults(() => ({ kind: 'answer', status: 403, code: 'AccessDenied', early: true }))
    await expectCode(store.put('a', await fileBody(join(folder, 'spool'), Buffer.alloc(300_000))), 'store-refused')
  })

  test('tells a full store from a refusing one', async () => {
    const { store } = await start({ quotaBytes: 10 })
    await expectCode(store.put('a', bytesBody('more than ten bytes')), 'store-full')
  })

  test('remembers that a store has no conditional puts', async () => {
    const { server, store } = await start({ conditional: 'not-implemented' })
    expect(await store.put('a', bytesBody('1'))).toEqual({ created: true })
    expect(await store.put('b', await fileBody(join(folder, 'spool'), Buffer.from('2')))).toEqual({ created: true })
    expect(server.requests.filter((r) => r.headers['if-none-match'] !== undefined).length).toBe(1)
    expect(count(server, 'put')).toBe(3)
  })

  test('adds the checksum that a bucket with default retention wants', async () => {
    const { server, store } = await start({ wantsChecksum: true })
    await store.put('a', bytesBody('1'))
    await store.put('b', bytesBody('2'))
    expect(count(server, 'put')).toBe(3)
  })

  test('corrects its clock where the store says that it is wrong', async () => {
    const { server, store } = await start({ now: () => systemClock.now() + 3_600_000 })
    expect(await store.put('a', bytesBody('1'))).toEqual({ created: true })
    expect(count(server, 'put')).toBe(2)
    await store.put('b', bytesBody('2'))
    expect(count(server, 'put')).toBe(3)
    const other = await start({ now: () => systemClock.now() - 3_600_000 })
    expect(await other.store.head('a')).toBeUndefined()
    other.server.setFaults(() => ({ kind: 'answer', status: 403, code: 'RequestTimeTooSkewed' }))
    await expect(other.store.get('a', { limitBytes: 1 })).rejects.toThrow('clock')
  })

  test('reads again where an answer breaks off, and never takes a part for the whole', async () => {
    const { server, store } = await start()
    const bytes = randomFillSync(Buffer.alloc(100_000))
    await store.put('a', bytesBody(bytes))
    server.setFaults(first('get', 2, { kind: 'truncated', bytes: 50_000 }))
    expect((await store.get('a', { limitBytes: 100_000 })).equals(bytes)).toBe(true)
    server.setFaults(first('get', 2, { kind: 'truncated', bytes: 50_000 }))
    expect((await store.getRange('a', { offset: 10, length: 90_000 })).equals(bytes.subarray(10, 90_010))).toBe(true)
  })

  test.each([0, 600_000])('gives up an upload when no byte moves for long, after %i bytes, and sends it again', async (afterBytes) => {
    const { server, store, clock } = await start()
    const bytes = randomFillSync(Buffer.alloc(2_000_000))
    server.setFaults(first('put', 1, { kind: 'stalled', afterBytes }))
    const put = store.put('a', await fileBody(join(folder, 'spool'), bytes))
    await untilQuiet(() => server.requests.length === 1 && clock.sleepers > 0)
    clock.advance(STALL_MS)
    expect(await put).toEqual({ created: true })
    expect(server.objects.get('repo/a')?.bytes.equals(bytes)).toBe(true)
  })

  test('gives up a download when no byte moves for long, and reads again', async () => {
    const { server, store, clock } = await start()
    await store.put('a', bytesBody('0123456789'))
    server.setFaults(first('get', 1, { kind: 'stalled-answer', bytes: 5 }))
    const get = store.get('a', { limitBytes: 10 })
    await untilQuiet(() => server.requests.at(-1)?.operation === 'get' && clock.sleepers > 0)
    clock.advance(STALL_MS)
    expect((await get).toString()).toBe('0123456789')
  })

  test('stops at once when the caller cancels, in a transfer and in a wait', async () => {
    const { server, store } = await start({}, { retry: { attempts: 9, baseMs: 1e9, capMs: 1e9 } })
    server.setFaults(first('put', 1, { kind: 'stalled', afterBytes: 0 }))
    const transfer = new AbortController()
    const put = store.put('a', await fileBody(join(folder, 'spool'), Buffer.alloc(2_000_000)), { signal: transfer.signal })
    await untilQuiet(() => server.requests.length === 1)
    transfer.abort()
    await expectCode(put, 'cancelled')
    server.setFaults(() => ({ kind: 'answer', status: 500 }))
    const waiting = new AbortController()
    const get = store.get('a', { limitBytes: 1, signal: waiting.signal })
    await untilQuiet(() => server.requests.length === 2)
    waiting.abort()
    await expectCode(get, 'cancelled')
  })

  test('says local-disk, not store, where the spool changes under its hands', async () => {
    const { server, store } = await start()
    const path = join(folder, 'spool')
    const body = await fileBody(path, randomFillSync(Buffer.alloc(8_000_000)))
    server.setFaults(first('put', 1, { kind: 'answer', status: 500 }))
    const refused = expectCode(store.put('a', body), 'local-disk')
    await writeFile(path, 'short')
    await refused
    expect(server.objects.size).toBe(0)
  })

  test('sends large bytes from memory in slices, again after a failure', async () => {
    const { server, store } = await start()
    const bytes = randomFillSync(Buffer.alloc(1_500_001))
    server.setFaults(first('put', 1, { kind: 'reset', afterBytes: 700_000 }))
    let progress = 0
    expect(await store.put('index/a', bytesBody(bytes), { progress: (n) => (progress += n) })).toEqual({ created: true })
    expect(server.objects.get('repo/index/a')?.bytes.equals(bytes)).toBe(true)
    expect(progress).toBe(bytes.length)
  })

  test('finds its keys where the AWS tools look', async () => {
    const path = join(folder, 'credentials')
    await writeFile(path, '[backup]\naws_access_key_id = AKFROMFILE\naws_secret_access_key = s\n')
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_PROFILE']) vi.stubEnv(name, undefined)
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', path)
    vi.stubEnv('AWS_CONFIG_FILE', join(folder, 'none'))
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true')
    open.push({ stop: async () => void vi.unstubAllEnvs() })
    const server = await startFakeS3({ now: systemClock.now })
    const found = await openS3Store({ endpoint: server.endpoint, bucket: server.bucket, profile: 'backup' })
    const lost = await openS3Store({ endpoint: server.endpoint, bucket: server.bucket, profile: 'other' })
    open.push({ stop: () => Promise.all([found.close(), lost.close()]).then(() => server.stop()) })
    await found.put('a', bytesBody('x'))
    expect(server.requests[0]?.headers.authorization).toContain('Credential=AKFROMFILE/')
    await expectCode(lost.put('b', bytesBody('x')), 'store-refused')
    await expect(lost.put('b', bytesBody('x'))).rejects.toThrow('AWS_PROFILE')
  })

  test('paces uploads to the rate it was given', async () => {
    const { store, clock } = await start({}, { uploadBytesPerSecond: 100_000 })
    const before = clock.monotonicMs()
    await store.put('a', await fileBody(join(folder, 'spool'), Buffer.alloc(1_000_000)))
    expect(clock.monotonicMs() - before).toBeGreaterThanOrEqual(9_000)
    expect(clock.monotonicMs() - before).toBeLessThanOrEqual(11_000)
  })

  test('passes over foreign names, and refuses listings that make no sense', async () => {
    const { server, store } = await start()
    await store.put('packs/a', bytesBody('1'))
    const reply = (text: string): void =>
      server.setFaults(first('list', 9, { kind: 'reply', text: `<ListBucketResult>${text}</ListBucketResult>` }))
    reply(entry('other/b', '1') + entry('repo/A', '1') + entry('repo/a', '2') + entry('repo/a/../b', '3') + entry('repo/b//c', '4'))
    expect(await listAll(store)).toEqual([{ name: 'a', bytes: 2, storedAt: Date.parse('2026-01-02T03:04:05Z') }])
    for (const size of ['-1', '1.5', '99999999999999999999', 'x']) {
      reply(entry('repo/a', size))
      await expectCode(listAll(store), 'store-refused')
    }
    reply(entry('repo/b', '1') + entry('repo/a', '1'))
    await expectCode(listAll(store), 'store-unsuitable')
    reply('<IsTruncated>true</IsTruncated>')
    await expectCode(listAll(store), 'store-refused')
    reply('<IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>')
    await expectCode(listAll(store), 'store-refused')
    reply(entry('repo/a', '1').repeat(200_000))
    await expectCode(listAll(store), 'store-refused')
  })

  test.each([
    {
      what: 'pages in turn',
      versioning: undefined,
      pages: ['<NextContinuationToken>a</NextContinuationToken>', '<NextContinuationToken>b</NextContinuationToken>'],
    },
    {
      what: 'names that are not its own in turn',
      versioning: undefined,
      pages: ['a', 'b'].map((token) => `${entry('repo/FOREIGN', '1')}<NextContinuationToken>${token}</NextContinuationToken>`),
    },
    { what: 'two names in turn', versioning: 'Enabled', pages: ['a', 'b'].map((key) => `<NextKeyMarker>repo/${key}</NextKeyMarker>`) },
    {
      what: 'two versions of a name in turn',
      versioning: 'Enabled',
      pages: ['1', '2'].map((id) => `<NextKeyMarker>repo/a</NextKeyMarker><NextVersionIdMarker>${id}</NextVersionIdMarker>`),
    },
  ] as const)('gives up a listing that goes round in circles: $what', async ({ versioning, pages }) => {
    const { server, store } = await start(versioning === undefined ? {} : { versioning })
    let asked = 0
    server.setFaults(({ operation }) =>
      operation.startsWith('list')
        ? { kind: 'reply', text: `<Listing><IsTruncated>true</IsTruncated>${pages[asked++ % 2]}</Listing>` }
        : undefined,
    )
    await expect(listAll(store)).rejects.toThrow(/again and again|out of order/)
    if (versioning !== undefined) await expect(store.get('a', { limitBytes: 9 })).rejects.toThrow(HoldfastError)
    expect(asked).toBeLessThan(1000)
  })

  test('asks once whether there are versions; what was listed is then read by its version with one request, the rest with two', async () => {
    const { server, store } = await start({ versioning: 'Enabled', conditional: 'ignored' })
    for (const name of ['a', 'b']) await store.put(name, bytesBody(`first ${name}`))
    for (const name of ['a', 'b']) await store.put(name, bytesBody('second, longer'))
    const spent = async (act: () => Promise<unknown>): Promise<string[]> => {
      const before = server.requests.length
      await act()
      return server.requests.slice(before).map((request) => request.operation)
    }
    const read = async (name: string): Promise<void> => expect((await store.get(name, { limitBytes: 7 })).toString()).toBe(`first ${name}`)
    expect(await spent(() => read('a'))).toEqual(['bucket', 'list-versions', 'get'])
    expect(await spent(() => read('a'))).toEqual(['get'])
    expect(await spent(() => store.head('b'))).toEqual(['list-versions'])
    expect(await spent(() => store.getRange('b', { offset: 0, length: 1 }))).toEqual(['get'])
    expect(await spent(() => listAll(store))).toEqual(['list-versions'])
    expect(await spent(() => store.put('c', bytesBody('first c')))).toEqual(['put'])
    expect(await spent(() => read('c'))).toEqual(['list-versions', 'get'])
    const plain = await start()
    await plain.store.put('a', bytesBody('x'))
    await plain.store.get('a', { limitBytes: 1 })
    await plain.store.head('a')
    expect(plain.server.requests.map((request) => request.operation)).toEqual(['put', 'bucket', 'get', 'head'])
  })

  test('finds the oldest of many versions over several pages, for one name and in a listing', async () => {
    const { store } = await start({ versioning: 'Enabled', conditional: 'ignored', versionPage: 3 })
    for (const name of ['a', 'a-b', 'b', 'c']) for (let i = 0; i < 7; i++) await store.put(name, bytesBody(`${i}`.repeat(i + 1)))
    await store.put('d', bytesBody('0'))
    expect((await listAll(store)).map(({ name, bytes }) => [name, bytes])).toEqual(['a', 'a-b', 'b', 'c', 'd'].map((name) => [name, 1]))
    const other = await start({ versioning: 'Enabled', conditional: 'ignored', versionPage: 2 })
    for (let i = 0; i < 7; i++) await other.store.put('a', bytesBody(`${i}`.repeat(i + 1)))
    expect((await other.store.get('a', { limitBytes: 1 })).toString()).toBe('0')
    await other.store.remove('a')
    expect(other.server.objects.size).toBe(0)
    expect(await other.store.head('a')).toBeUndefined()
  })

  test('looks again where a version that it knew has been removed by another', async () => {
    const { server, store } = await start({ versioning: 'Enabled' })
    await store.put('a', bytesBody('old'))
    expect(await listAll(store)).toHaveLength(1)
    const other = await openS3Store({ endpoint: server.endpoint, bucket: server.bucket, credentials, prefix: 'repo' })
    await other.remove('a')
    await expectCode(store.get('a', { limitBytes: 9 }), 'not-found')
    await other.put('a', bytesBody('new'))
    expect((await store.get('a', { limitBytes: 9 })).toString()).toBe('new')
    await other.close()
  })

  test('reads and lists the newest where versions may not be listed, and names the right that is missing where they may not be read', async () => {
    const { server, store } = await start({ versioning: 'Enabled', denyListVersions: true })
    await store.put('a', bytesBody('1'))
    expect((await listAll(store)).map((object) => object.name)).toEqual(['a'])
    expect((await store.get('a', { limitBytes: 9 })).toString()).toBe('1')
    expect(count(server, 'list-versions')).toBe(1)
    const unreadable = await start({ versioning: 'Enabled', denyGetVersion: true })
    await unreadable.store.put('a', bytesBody('1'))
    await expect(unreadable.store.get('a', { limitBytes: 9 })).rejects.toThrow('s3:GetObjectVersion')
    const untold = await start({ versioning: 'Enabled', denyVersioning: true })
    await untold.store.put('a', bytesBody('1'))
    expect((await untold.store.get('a', { limitBytes: 9 })).toString()).toBe('1')
  })

  test('refuses a store that ignores ranges', async () => {
    const { server, store } = await start()
    await store.put('a', bytesBody('0123456789'))
    server.setFaults(() => ({ kind: 'no-range' }))
    await expectCode(store.getRange('a', { offset: 2, length: 3 }), 'store-unsuitable')
  })

  test('puts the bucket into the host name where told', async () => {
    const server = await startFakeS3({ now: systemClock.now })
    const store = await openS3Store({
      endpoint: `http://s3.example:${server.port}`,
      bucket: server.bucket,
      credentials: { ...credentials, sessionToken: 'token-1' },
      style: 'virtual',
      lookup: (_host, options, done) =>
        options.all === true ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4),
    })
    open.push({ stop: () => store.close().then(() => server.stop()) })
    await store.put('a', bytesBody('x'))
    expect(server.requests[0]?.headers.host).toBe(`bucket.s3.example:${server.port}`)
    expect(server.requests[0]?.headers['x-amz-security-token']).toBe('token-1')
    expect(server.objects.has('a')).toBe(true)
  })

  test('an unreachable host is unreachable, an untrusted answer unread', async () => {
    const store = await openS3Store({
      endpoint: 'http://127.0.0.1:1',
      bucket: 'b',
      credentials,
      retry: { attempts: 2, baseMs: 1, capMs: 1 },
    })
    await expectCode(store.head('a'), 'store-unreachable')
    await store.close()
    await expectCode(openS3Store({ endpoint: 'http://127.0.0.1:1', bucket: 'b', caFile: join(folder, 'none.pem') }), 'bad-config')
  })
})

/** Lets the event loop turn until something holds: no time is waited for, only work that is under way. */
async function untilQuiet(holds: () => boolean): Promise<void> {
  for (let turns = 0; !holds(); turns++) {
    if (turns > 1_000_000) throw new Error('it never came to pass')
    await new Promise((resolve) => setImmediate(resolve))
  }
  for (let turns = 0; turns < 200; turns++) await new Promise((resolve) => setImmediate(resolve))
}

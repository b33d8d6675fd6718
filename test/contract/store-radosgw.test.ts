// Runs the store contract against a real S3 server: plain, through TLS with an authority of our own, and with a session token.
import { execFile } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { S3Server } from '../../demo/s3-server.ts'
import { systemClock } from '@holdfast/shared/clock.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { judgeCapabilities, probeStore } from '@holdfast/shared/store/capabilities.ts'
import { LazyS3Client } from '@holdfast/shared/store/s3-client.ts'
import { openS3Store } from '@holdfast/shared/store/s3-store.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { assumeRole, startRadosgw } from '../_support/radosgw.ts'
import { bytesBody, describeStore, expectCode, fileBody, listAll } from './store-contract.ts'

const policy = (statement: object): string => JSON.stringify({ Version: '2012-10-17', Statement: [statement] })

let server: S3Server
let folder: string
let count = 0
const keys = (): { accessKeyId: string; secretAccessKey: string } => ({ accessKeyId: server.accessKey, secretAccessKey: server.secretKey })

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-tls-'))
  const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')]
  const subject = ['-subj', '/CN=holdfast test', '-addext', 'subjectAltName=IP:127.0.0.1']
  await promisify(execFile)('openssl', [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '2',
    '-keyout',
    key,
    '-out',
    certificate,
    ...subject,
  ])
  server = await startRadosgw({ tls: { certificate, key } })
})
afterAll(async () => {
  await server.stop()
  await rm(folder, { recursive: true })
})

describeStore('radosgw, path style', async () => {
  await server.createBucket('plain')
  return {
    conditional: true,
    open: () => openS3Store({ endpoint: server.endpoint, bucket: 'plain', prefix: `p/${count++}`, credentials: keys() }),
    stop: async () => undefined,
  }
})

describeStore('radosgw through TLS with a custom authority', async () => {
  await server.createBucket('secure')
  return {
    conditional: true,
    open: () =>
      openS3Store({
        endpoint: server.tlsEndpoint ?? '',
        bucket: 'secure',
        prefix: `p${count++}`,
        credentials: keys(),
        caFile: join(folder, 'certificate.pem'),
      }),
    stop: async () => undefined,
  }
})

describeStore('radosgw, a versioned bucket, where conditions are ignored', async () => {
  await server.createBucket('versioned', { versioning: true })
  return {
    conditional: false,
    open: () => openS3Store({ endpoint: server.endpoint, bucket: 'versioned', prefix: `p${count++}`, credentials: keys() }),
    stop: async () => undefined,
  }
})

test('a certificate of an unknown authority is refused with a word about the CA setting', async () => {
  const store = await openS3Store({ endpoint: server.tlsEndpoint ?? '', bucket: 'secure', credentials: keys() })
  await expectCode(store.head('x'), 'store-refused')
  await expect(store.head('x')).rejects.toThrow('HOLDFAST_S3_CA')
  await store.close()
})

test('wrong credentials and a missing bucket are refusals, never an absent object or an empty listing', async () => {
  await server.createBucket('real')
  const wrong = await openS3Store({ endpoint: server.endpoint, bucket: 'real', credentials: { ...keys(), secretAccessKey: 'wrong' } })
  const missing = await openS3Store({ endpoint: server.endpoint, bucket: 'missing', credentials: keys() })
  for (const store of [wrong, missing]) {
    await expectCode(store.head('x'), 'store-refused')
    await expectCode(store.get('x', { limitBytes: 1 }), 'store-refused')
    await expectCode(listAll(store), 'store-refused')
    await expectCode(store.put('x', bytesBody('x')), 'store-refused')
    await store.close()
  }
})

test('credentials of a role with a session token hold to the role: put and read, never delete', async () => {
  await server.createBucket('role')
  const trust = { Effect: 'Allow', Principal: { AWS: ['arn:aws:iam:::user/t'] }, Action: ['sts:AssumeRole'] }
  const rights = {
    Effect: 'Allow',
    Action: ['s3:PutObject', 's3:GetObject', 's3:ListBucket'],
    Resource: ['arn:aws:s3:::role', 'arn:aws:s3:::role/*'],
  }
  await server.admin('role', 'create', '--role-name=appliance', '--path=/', `--assume-role-policy-doc=${policy(trust)}`)
  await server.admin('role-policy', 'put', '--role-name=appliance', '--policy-name=p', `--policy-doc=${policy(rights)}`)
  const credentials = await assumeRole(server, 'arn:aws:iam:::role/appliance')
  const store = await openS3Store({ endpoint: server.endpoint, bucket: 'role', credentials })
  expect(await store.put('packs/a', bytesBody('x'))).toEqual({ created: true })
  expect((await store.get('packs/a', { limitBytes: 9 })).toString()).toBe('x')
  await expectCode(store.remove('packs/a'), 'store-refused')
  const caps = await probeStore(store, { random: systemRandom, clock: systemClock })
  expect(caps).toMatchObject({ overwrite: 'accepted', remove: 'refused', listing: 'strong', rangedRead: 'yes', conditionalPut: 'honoured' })
  expect(
    judgeCapabilities(caps, { acceptOverwrite: false })
      .filter((f) => f.level === 'refuse')
      .map((f) => f.code),
  ).toEqual(['overwrite'])
  await store.close()
  const expired = await openS3Store({ endpoint: server.endpoint, bucket: 'role', credentials: { ...credentials, sessionToken: 'forged' } })
  await expectCode(expired.get('packs/a', { limitBytes: 9 }), 'store-refused')
  await expired.close()
})

test('versioning and lock of a bucket are found out', async () => {
  await server.createBucket('locked', { lock: true })
  const lookAt = async (bucket: string): Promise<unknown> => {
    const store = await openS3Store({ endpoint: server.endpoint, bucket, credentials: keys() })
    const { versioning, objectLock, overwrite } = await probeStore(store, { random: systemRandom, clock: systemClock })
    await store.close()
    return { versioning, objectLock, overwrite }
  }
  expect(await lookAt('locked')).toEqual({ versioning: 'on', objectLock: 'on', overwrite: 'kept' })
  expect(await lookAt('versioned')).toMatchObject({ versioning: 'on', overwrite: 'kept' })
  expect(await lookAt('plain')).toMatchObject({ versioning: 'off', overwrite: 'accepted' })
})

test('a large body of a taken name is answered as taken, and one with a false hash is refused', async () => {
  const store = await openS3Store({ endpoint: server.endpoint, bucket: 'plain', prefix: 'large', credentials: keys() })
  const body = await fileBody(join(folder, 'spool'), randomFillSync(Buffer.alloc(8 * 1024 * 1024)))
  expect(await store.put('packs/a', body)).toEqual({ created: true })
  expect(await store.put('packs/a', body)).toEqual({ created: false })
  await expectCode(store.put('packs/b', { ...body, sha256: '0'.repeat(64) }), 'store-refused')
  expect(await store.head('packs/b')).toBeUndefined()
  await store.close()
})

test.each(['versions', 'locks'])(
  'where a bucket %s, what was put first is what is read, listed and sized, whatever is laid over it',
  async (kind) => {
    await server.createBucket(`oldest-${kind}`, { versioning: true, lock: kind === 'locks' })
    const open = (): Promise<Store> =>
      openS3Store({ endpoint: server.endpoint, bucket: `oldest-${kind}`, prefix: 'repo', credentials: keys() })
    const owner = await open()
    for (const name of ['a/one', 'a/one-more', 'a/two', 'a/untouched']) await owner.put(name, bytesBody(`original ${name}`))
    const before = await listAll(owner)
    // The thief may put, which some servers do whatever the condition says, and delete, which lays a mark over the name.
    const thief = new LazyS3Client({ endpoint: server.endpoint, bucket: `oldest-${kind}`, credentials: keys() })
    const { sdk, client } = await thief.load()
    const at = (name: string): { Bucket: string; Key: string } => ({ Bucket: `oldest-${kind}`, Key: `repo/${name}` })
    await client.send(new sdk.PutObjectCommand({ ...at('a/one'), Body: 'forged, and longer than the original' }))
    await client.send(new sdk.PutObjectCommand({ ...at('a/one'), Body: 'forged again' }))
    await client.send(new sdk.DeleteObjectCommand(at('a/two')))
    await client.send(new sdk.DeleteObjectCommand(at('never-put')))
    await thief.destroy()
    // A store that has listed before and one that has not.
    for (const store of [owner, await open(), await open()]) {
      if (store !== owner) expect(await listAll(store)).toEqual(before)
      for (const name of ['a/one', 'a/one-more', 'a/two', 'a/untouched']) {
        const text = `original ${name}`
        expect((await store.get(name, { limitBytes: text.length })).toString()).toBe(text)
        expect((await store.getRange(name, { offset: -5, length: 5 })).toString()).toBe(text.slice(-5))
        expect(await store.head(name)).toEqual(before.find((object) => object.name === name))
      }
      expect(await store.head('never-put')).toBeUndefined()
      await expectCode(store.get('never-put', { limitBytes: 9 }), 'not-found')
    }
    const fresh = await open()
    expect((await fresh.get('a/one', { limitBytes: 50 })).toString()).toBe('original a/one')
    // Removing an object for good removes what lay over it as well.
    await fresh.remove('a/one')
    await fresh.remove('a/two')
    expect((await listAll(owner)).map((object) => object.name)).toEqual(['a/one-more', 'a/untouched'])
    await expectCode(owner.get('a/one', { limitBytes: 50 }), 'not-found')
    await owner.close()
    await fresh.close()
  },
)

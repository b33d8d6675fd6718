// Runs the store contract against a real S3 server: plain, through TLS with an authority of our own, and with a session token.
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { S3Server } from '../../demo/s3-server.ts'
import { openS3Store } from '../../agent/store/s3-store.ts'
import { startRadosgw } from '../_support/radosgw.ts'
import { bytesBody, describeStore, expectCode, listAll } from './store-contract.ts'

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

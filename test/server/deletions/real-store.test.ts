// Deletions in a real S3 server: an appliance whose user may put, read and list, a server whose user may delete, and a bucket that keeps versions.
import { afterAll, beforeAll, expect, it } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { objectName, packName } from '@holdfast/shared/format/layout.ts'
import { openS3Store } from '@holdfast/shared/store/s3-store.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import type { S3Server } from '../../../demo/s3-server.ts'
import { startRadosgw } from '../../_support/radosgw.ts'
import { makeDeletionWorld, type DeletionWorld } from './_support/deletion-world.ts'

const BUCKET = 'deletions'
const PUT_ONLY = { accessKeyId: 'PUTONLY', secretAccessKey: 'puts-reads-and-lists' }
let s3: S3Server
let appliance: Store
let world: DeletionWorld

beforeAll(async () => {
  s3 = await startRadosgw()
  await s3.createBucket(BUCKET, { versioning: true })
  const keys = [`--access-key=${PUT_ONLY.accessKeyId}`, `--secret-key=${PUT_ONLY.secretAccessKey}`]
  await s3.admin('user', 'create', '--uid=appliance', '--display-name=appliance', ...keys)
  const Resource = [`arn:aws:s3:::${BUCKET}`, `arn:aws:s3:::${BUCKET}/*`]
  const rights = ['GetObject', 'PutObject', 'ListBucket', 'GetBucketVersioning', 'ListBucketVersions', 'GetObjectVersion']
  await s3.setBucketPolicy(BUCKET, {
    Version: '2012-10-17',
    Statement: [
      { Effect: 'Allow', Principal: { AWS: ['arn:aws:iam:::user/t'] }, Action: ['s3:*'], Resource },
      { Effect: 'Allow', Principal: { AWS: ['arn:aws:iam:::user/appliance'] }, Action: rights.map((right) => `s3:${right}`), Resource },
    ],
  })
  appliance = await openS3Store({ endpoint: s3.endpoint, bucket: BUCKET, prefix: '', credentials: PUT_ONLY })
  const deleter = { accessKeyId: s3.accessKey, secretAccessKey: s3.secretKey }
  const real = { endpoint: s3.endpoint, bucket: BUCKET, appliance, deleter }
  world = await makeDeletionWorld({ clock: systemClock, retention: { last: 1 }, s3: real })
}, 60_000)
afterAll(async () => {
  await world?.close()
  await appliance?.close()
  await s3?.stop()
})

it('what the appliance names and cannot delete is deleted by the server, and nothing else', async () => {
  const [shared, old] = [await world.writePacks(1), await world.writePacks(1)]
  for (const packs of [[...shared, ...old], shared, shared]) await world.backup(packs)
  const [first, ...kept] = world.snapshots
  await world.forgotten([first!])
  const list = await world.condemn(old, kept)
  await world.publish({ kind: 'deletion', lists: [list], names: world.named([first!], [...old, ...shared]) })
  await world.publish({ kind: 'deletion', lists: [list], names: world.named([first!], old) })
  await expect(appliance.remove(packName(old[0]!))).rejects.toMatchObject({ code: 'store-refused' })
  // The window of a server that is set to none, so that nobody waits for days of a real clock.
  const config = { ...world.server.context.config, undeleteMs: 0 }
  expect(await world.look({ config })).toMatchObject({ open: 2, held: 1, done: 1, removed: 2 })
  expect(await appliance.head(packName(old[0]!))).toBeUndefined()
  expect(await appliance.head(objectName('snapshot', first!))).toBeUndefined()
  for (const name of [packName(shared[0]!), ...kept.map((ref) => objectName('snapshot', ref))])
    expect(await appliance.head(name)).toBeDefined()
  expect((await world.deletions()).map(({ state }) => state).sort()).toEqual(['done', 'held'])
}, 60_000)

it('credentials that do not work are refused when they are set', async () => {
  const body = { accessKeyId: 'NOBODY', secretAccessKey: 'nothing' }
  const reply = await world.server.call('PUT', `/v1/stores/${world.storeId}/delete-credentials`, world.token, body)
  expect(reply.status).toBeGreaterThanOrEqual(400)
  expect(reply.text).not.toContain('nothing')
  expect((await world.server.call('GET', `/v1/stores/${world.storeId}`, world.token)).json()).toMatchObject({ hasDeleteCredentials: true })
})

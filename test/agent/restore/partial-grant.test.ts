// A grant for some files, made as the controller's command makes it and opened as the agent opens it, restores exactly these and reaches nothing
// else; from memory and from a real S3 server, whose bucket keeps versions.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { collectGrantKeys } from '../../../agent/cli/grant-keys.ts'
import { makeGrant, type OpenedGrant, openGrant, selectionHash } from '../../../agent/keys/grant.ts'
import { xwingKeyPair } from '../../../agent/keys/xwing.ts'
import { dumpFile } from '../../../agent/restore/dump.ts'
import { restoreSnapshot, type Selection } from '../../../agent/restore/restore.ts'
import { openS3Store } from '@holdfast/shared/store/s3-store.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import type { S3Server } from '../../../demo/s3-server.ts'
import { memoryStore } from '../../_support/memory-store.ts'
import { startRadosgw } from '../../_support/radosgw.ts'
import { type BuiltRepository, buildRepository, directory, file } from '../../_support/repository-fixture.ts'
import { folders, namesIn, optionsFor } from '../../_support/restore-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

const NOW = 1_700_000_000_000
const content = (name: string, bytes = 9000): Buffer => seededRandom(name).bytes(bytes)
const work = folders()
afterAll(() => work.removeAll())

/** Every chunk and every node has a segment of its own, so that a grant for one opens no other. */
const tree = () =>
  directory(
    {
      srv: directory({
        accounts: directory({ 'one.txt': file(content('one')), 'two.txt': file(content('two')) }),
        large: file(content('large', 5 << 20), { chunkBytes: 700_000, listPage: 3 }),
        photos: directory({ inner: directory({ 'b.jpg': file(content('b')) }), 'a.jpg': file(content('a')) }),
        secret: directory({ 'note.txt': file('within the tree itself') }),
      }),
    },
    { passage: true },
  )

async function grantFor(built: BuiltRepository, paths: readonly string[] | 'whole'): Promise<OpenedGrant & { selection: Selection }> {
  const { repository, view, keys, snapshot } = built
  const tokens = paths === 'whole' ? [] : paths.map((path) => built.builder.tokens.path(Buffer.from(path))).sort()
  const selection = paths === 'whole' ? { whole: true as const } : { tokens }
  const found = await collectGrantKeys({ repository, view, keys, snapshot, selection, signal: new AbortController().signal })
  expect(found.sessionKeys).toEqual([])
  const keyPair = xwingKeyPair(systemRandom.bytes(32))
  const terms = {
    restoreId: `rst_${'1'.repeat(32)}`,
    agentId: `ag_${'2'.repeat(32)}`,
    snapshotId: snapshot.structure.ref.random,
    restoreRoot: 'desk',
    conflict: 'beside',
  }
  const { segmentKeys, sessionKeys } = found
  const object = makeGrant({
    ...terms,
    signing: keys.signing,
    domainId: repository.keys.domainId,
    requestPublicKey: keyPair.publicKey,
    root: snapshot.structure.root,
    selection: selectionHash(selection),
    issuedAt: NOW,
    expiresAt: NOW + 3_600_000,
    sessionKeys,
    segmentKeys,
    random: systemRandom,
  })
  const expected = { ...terms, selectionHash: selectionHash(selection), now: NOW + 1 }
  const opened = openGrant({ object, keyPair, structure: repository.keys, expect: expected })
  return { ...opened, selection: paths === 'whole' ? { kind: 'whole' } : { kind: 'tokens', tokens: new Set(tokens) } }
}

const code = (error: unknown): unknown => (isHoldfastError(error) ? error.code : error)

describe.each(['memory', 'radosgw'])('over %s', (kind) => {
  let server: S3Server | undefined
  let store: Store
  let built: BuiltRepository
  beforeAll(async () => {
    if (kind === 'radosgw') {
      server = await startRadosgw()
      await server.createBucket('restores', { versioning: true })
      const credentials = { accessKeyId: server.accessKey, secretAccessKey: server.secretKey }
      store = await openS3Store({ endpoint: server.endpoint, bucket: 'restores', prefix: 'domain', credentials })
    } else store = memoryStore()
    built = await buildRepository({ store, tree: tree(), segmentBytes: 1 })
  })
  afterAll(async () => {
    await store.close()
    await server?.stop()
  })

  test('a whole snapshot comes back through worker threads, and again from packs read for the first time', async () => {
    for (const workers of [2, 0]) {
      const target = work.make()
      const report = await restoreSnapshot(optionsFor(built, target, { workers }))
      expect(report).toMatchObject({ files: 6, problems: [], failed: 0 })
      expect(readFileSync(join(target, 'srv/large')).equals(content('large', 5 << 20))).toBe(true)
      expect(readFileSync(join(target, 'srv/photos/inner/b.jpg')).equals(content('b'))).toBe(true)
    }
  })

  test.each([0, 2])('a grant for one file and one directory restores exactly these (%i threads)', async (workers) => {
    const grant = await grantFor(built, ['/srv/accounts/two.txt', '/srv/photos'])
    const target = work.make()
    const report = await restoreSnapshot(optionsFor(built, target, { keys: grant.readKeys, selection: grant.selection, workers }))
    expect(report).toMatchObject({ files: 3, problems: [], failed: 0 })
    expect(namesIn(target)).toEqual([
      'srv/',
      'srv/accounts/',
      'srv/accounts/two.txt',
      'srv/photos/',
      'srv/photos/a.jpg',
      'srv/photos/inner/',
      'srv/photos/inner/b.jpg',
    ])
    expect(readFileSync(join(target, 'srv/accounts/two.txt')).equals(content('two'))).toBe(true)
  })

  test('with the same grant everything else is refused as needing a grant, and nothing of it is written', async () => {
    const grant = await grantFor(built, ['/srv/accounts/two.txt'])
    const others: Selection[] = [
      { kind: 'whole' },
      ...['/srv/accounts/one.txt', '/srv/large', '/srv/photos', '/srv/photos/a.jpg', '/srv/secret'].map((path): Selection => ({
        kind: 'paths',
        paths: [Buffer.from(path)],
      })),
    ]
    for (const selection of others) {
      const target = work.make()
      const options = optionsFor(built, target, { keys: grant.readKeys, selection })
      const outcome = await restoreSnapshot(options).catch(code)
      expect([selection, outcome]).toEqual([selection, 'grant-required'])
      expect(namesIn(target).filter((name) => !name.endsWith('/') && !name.startsWith('.holdfast-restore-'))).toEqual([])
      const read: Buffer[] = []
      if (selection.kind === 'paths')
        await dumpFile({
          ...built,
          keys: grant.readKeys,
          path: selection.paths[0]!,
          write: (bytes) => void read.push(Buffer.from(bytes)),
        }).catch(code)
      expect(read).toEqual([])
    }
  })

  test('a grant that was forgotten opens nothing any more', async () => {
    const grant = await grantFor(built, 'whole')
    const whole = await restoreSnapshot(optionsFor(built, work.make(), { keys: grant.readKeys }))
    expect(whole).toMatchObject({ files: 6, problems: [] })
    grant.forget()
    expect(await restoreSnapshot(optionsFor(built, work.make(), { keys: grant.readKeys })).catch(code)).toBe('grant-required')
  })
})

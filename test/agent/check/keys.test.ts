// Wrapped keys that go bad where they lie: a check without their secret tells, before the day on which one is needed.
import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { checkRepository } from '../../../agent/check/check.ts'
import { keyNameOf, wrapRoot } from '../../../agent/keys/key-object.ts'
import { makeRecoveryCode, printRecoveryCode } from '../../../agent/keys/recovery-code.ts'
import { memoryStore } from '../../_support/memory-store.ts'
import { buildRepository, directory, file } from '../../_support/repository-fixture.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

async function world() {
  const store = memoryStore()
  const { repository } = await buildRepository({ store, tree: directory({ a: file('a') }) })
  const random = seededRandom('keys')
  const wrap = async (domainId: Buffer): Promise<[string, Buffer]> => {
    const secret = { recoveryCode: printRecoveryCode(makeRecoveryCode(random)) }
    const bytes = await wrapRoot({ root: random.bytes(32), domainId, secret, label: 'k', createdAt: 1, random })
    return [`keys/${keyNameOf(bytes)}`, bytes]
  }
  const [name, bytes] = await wrap(repository.description.domainId)
  await store.put(name, { kind: 'bytes', bytes })
  return { store, repository, name, bytes, wrap }
}

test('a sound key is good, and so is none at all', async () => {
  const { store, repository, name } = await world()
  const withKey = await checkRepository({ repository })
  expect(withKey).toMatchObject({ damaged: 0, unknown: 0 })
  store.objects.delete(name)
  expect(await checkRepository({ repository })).toMatchObject({ damaged: 0, unknown: 0, good: withKey.good - 1 })
})

test('any byte changed and any length is told, and what to do', async () => {
  const { store, repository, name, bytes } = await world()
  expect(name).toBe(`keys/${createHash('sha256').update(bytes).digest('hex').slice(0, 32)}`)
  for (let at = 0; at < bytes.length; at += 3) {
    const changed = Buffer.from(bytes)
    changed[at]! ^= 16
    for (const object of [changed, bytes.subarray(0, at)]) {
      store.objects.set(name, object)
      const { findings } = await checkRepository({ repository })
      // A header of a later version is none that can be judged.
      expect(findings, `${at}`).toMatchObject([{ kind: 'key', object: name }])
      if (findings[0]!.verdict === 'damaged') expect(findings[0]!.message).toMatch(/holdfast key add.*holdfast key remove/)
    }
  }
})

test('a key of another domain, or of another name, is told', async () => {
  const { store, repository, name, bytes, wrap } = await world()
  const [foreign, object] = await wrap(Buffer.alloc(16, 9))
  await store.put(foreign, { kind: 'bytes', bytes: object })
  store.objects.delete(name)
  await store.put(`keys/${'0'.repeat(32)}`, { kind: 'bytes', bytes })
  const { findings } = await checkRepository({ repository })
  expect(findings.map(({ object: found }) => found).sort()).toEqual([`keys/${'0'.repeat(32)}`, foreign].sort())
})

test('one that cannot be read now is not called damaged, and one that was removed meanwhile is no news', async () => {
  for (const [code, expected] of [
    ['store-unreachable', { damaged: 0, unknown: 1 }],
    ['not-found', { damaged: 0, unknown: 0 }],
  ] as const) {
    const { store, repository, name } = await world()
    const get = store.get.bind(store)
    const failing = { ...repository, store: { ...store, get: (of: string, more: Parameters<typeof get>[1]) => refuse(of, more) } }
    const refuse = async (of: string, more: Parameters<typeof get>[1]): Promise<Buffer> => {
      if (of === name) throw new HoldfastError(code, 'not now')
      return get(of, more)
    }
    expect(await checkRepository({ repository: failing })).toMatchObject(expected)
  }
})

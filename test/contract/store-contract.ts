// The one suite that every store must pass: it holds each implementation to the text of shared/store/store.ts.
import { createHash, randomFillSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { ErrorCode } from '@holdfast/shared/errors.ts'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { ObjectInfo, PutBody, Store } from '@holdfast/shared/store/store.ts'

export type ContractTarget = {
  /** A fresh, empty store. */
  open(): Promise<Store>
  /** True where a second put of a name is noticed. */
  readonly conditional: boolean
  stop(): Promise<void>
}

/** The bytes of a small object as a body. */
export function bytesBody(bytes: Uint8Array | string): PutBody {
  return { kind: 'bytes', bytes: typeof bytes === 'string' ? Buffer.from(bytes) : bytes }
}

/** Writes `bytes` to `path` and describes them as a spool file. */
export async function fileBody(path: string, bytes: Uint8Array): Promise<PutBody & { kind: 'file' }> {
  await writeFile(path, bytes)
  return { kind: 'file', path: Buffer.from(path), bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
}

/** All pages of a listing, joined. */
export async function listAll(store: Store, prefix = ''): Promise<ObjectInfo[]> {
  const found: ObjectInfo[] = []
  for await (const page of store.list(prefix)) found.push(...page)
  return found
}

/** Expects a rejection with one of the product's codes. */
export async function expectCode(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  const outcome = await promise.then(
    () => 'no error',
    (error: unknown) => error,
  )
  expect(isHoldfastError(outcome) ? outcome.code : outcome).toBe(code)
}

export function describeStore(label: string, start: () => Promise<ContractTarget>): void {
  describe(`a store: ${label}`, () => {
    let target: ContractTarget
    let store: Store
    let folder: string
    beforeAll(async () => {
      target = await start()
      folder = await mkdtemp(join(tmpdir(), 'holdfast-contract-'))
    })
    afterAll(async () => {
      await target.stop()
      await rm(folder, { recursive: true, force: true })
    })
    beforeEach(async () => {
      store = await target.open()
      return () => store.close()
    })

    test('gives back what was put, whole and in ranges', async () => {
      const bytes = randomFillSync(Buffer.alloc(300_000))
      expect(await store.put('packs/ab/one', bytesBody(bytes))).toEqual({ created: true })
      expect(await store.get('packs/ab/one', { limitBytes: 300_000 })).toEqual(bytes)
      expect(await store.getRange('packs/ab/one', { offset: 0, length: 1 })).toEqual(bytes.subarray(0, 1))
      expect(await store.getRange('packs/ab/one', { offset: 1000, length: 250_000 })).toEqual(bytes.subarray(1000, 251_000))
      expect(await store.getRange('packs/ab/one', { offset: -64, length: 64 })).toEqual(bytes.subarray(-64))
      expect(await store.getRange('packs/ab/one', { offset: -300_000, length: 300_000 })).toEqual(bytes)
      expect(await store.getRange('packs/ab/one', { offset: 5, length: 0 })).toEqual(Buffer.alloc(0))
    })

    test('keeps an empty object', async () => {
      await store.put('empty', bytesBody(''))
      expect(await store.get('empty', { limitBytes: 0 })).toEqual(Buffer.alloc(0))
      expect((await store.head('empty'))?.bytes).toBe(0)
      await expectCode(store.getRange('empty', { offset: 0, length: 1 }), 'damaged')
      await expectCode(store.getRange('empty', { offset: -1, length: 1 }), 'damaged')
    })

    test('takes a body from a file and tells of the bytes sent', async () => {
      const bytes = randomFillSync(Buffer.alloc(3 * 1024 * 1024 + 17))
      const body = await fileBody(join(folder, 'spool'), bytes)
      let sent = 0
      expect(await store.put('packs/file', body, { progress: (n) => (sent += n) })).toEqual({ created: true })
      expect(sent).toBe(bytes.length)
      expect((await store.get('packs/file', { limitBytes: bytes.length })).equals(bytes)).toBe(true)
      const frozen = await fileBody(join(folder, 'frozen'), bytes)
      expect(await store.put('packs/frozen', { ...frozen, frozen: true })).toEqual({ created: true })
      await rm(join(folder, 'frozen'))
      expect((await store.get('packs/frozen', { limitBytes: bytes.length })).equals(bytes)).toBe(true)
    })

    test('takes an empty file', async () => {
      const body = await fileBody(join(folder, 'nothing'), Buffer.alloc(0))
      await store.put('packs/nothing', body)
      expect((await store.head('packs/nothing'))?.bytes).toBe(0)
    })

    test('refuses a spool file that is missing or has another length than declared', async () => {
      const body = await fileBody(join(folder, 'short'), Buffer.from('1234'))
      await expectCode(store.put('packs/short', { ...body, bytes: 5 }), 'local-disk')
      await expectCode(store.put('packs/short', { ...body, bytes: 3 }), 'local-disk')
      await expectCode(store.put('packs/short', { ...body, path: Buffer.from(join(folder, 'absent')) }), 'local-disk')
      expect(await store.head('packs/short')).toBeUndefined()
    })

    test('keeps the first of two objects of one name, where it can tell', async () => {
      await store.put('keys/one', bytesBody('first'))
      const second = await store.put('keys/one', bytesBody('second'))
      expect(second.created).toBe(!target.conditional)
      if (target.conditional) expect((await store.get('keys/one', { limitBytes: 10 })).toString()).toBe('first')
    })

    test('lets one of eight writers of a name win, where it can tell', async () => {
      const bodies = Array.from({ length: 8 }, (_, i) => `writer ${i}`)
      const outcomes = await Promise.all(bodies.map((body) => store.put('keys/race', bytesBody(body))))
      if (target.conditional) expect(outcomes.filter((o) => o.created)).toHaveLength(1)
      const winner = (await store.get('keys/race', { limitBytes: 100 })).toString()
      if (target.conditional) expect(winner).toBe(bodies[outcomes.findIndex((o) => o.created)])
      else expect(bodies).toContain(winner)
    })

    test('says not-found for what is not there', async () => {
      await expectCode(store.get('packs/absent', { limitBytes: 10 }), 'not-found')
      await expectCode(store.getRange('packs/absent', { offset: 0, length: 1 }), 'not-found')
      await expectCode(store.getRange('packs/absent', { offset: 0, length: 0 }), 'not-found')
      expect(await store.head('packs/absent')).toBeUndefined()
    })

    test('says damaged where an object ends before the range', async () => {
      await store.put('packs/ten', bytesBody('0123456789'))
      await expectCode(store.getRange('packs/ten', { offset: 5, length: 6 }), 'damaged')
      await expectCode(store.getRange('packs/ten', { offset: 10, length: 1 }), 'damaged')
      await expectCode(store.getRange('packs/ten', { offset: 999, length: 1 }), 'damaged')
      await expectCode(store.getRange('packs/ten', { offset: -11, length: 11 }), 'damaged')
    })

    test('refuses to hold more than the limit in memory', async () => {
      await store.put('packs/ten', bytesBody('0123456789'))
      await expectCode(store.get('packs/ten', { limitBytes: 9 }), 'too-large')
      expect((await store.get('packs/ten', { limitBytes: 10 })).length).toBe(10)
    })

    test('tells size and time of an object', async () => {
      await store.put('packs/ten', bytesBody('0123456789'))
      const info = await store.head('packs/ten')
      expect(info).toMatchObject({ name: 'packs/ten', bytes: 10 })
      expect(Number.isSafeInteger(info?.storedAt)).toBe(true)
      expect((await listAll(store, 'packs/'))[0]).toEqual(info)
    })

    test('lists in byte order of whole names, only below the prefix', async () => {
      const names = ['a-b', 'a.b', 'a/x', 'a/x-y', 'a0', 'b/1/2/3', 'b/1/2-3', 'b/10', 'z']
      for (const name of [...names].reverse()) await store.put(name, bytesBody(name))
      const sorted = [...names].sort((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y)))
      expect((await listAll(store)).map((o) => o.name)).toEqual(sorted)
      expect((await listAll(store, 'a/')).map((o) => o.name)).toEqual(['a/x', 'a/x-y'])
      expect((await listAll(store, 'b/1/')).map((o) => o.name)).toEqual(['b/1/2-3', 'b/1/2/3'])
      expect(await listAll(store, 'nothing/')).toEqual([])
    })

    test('lists more than one page completely', async () => {
      const names = Array.from({ length: 1205 }, (_, i) => `many/${String(i).padStart(5, '0')}`)
      for (let i = 0; i < names.length; i += 32) await Promise.all(names.slice(i, i + 32).map((n) => store.put(n, bytesBody('x'))))
      const pages: number[] = []
      const found: string[] = []
      for await (const page of store.list('many/')) {
        pages.push(page.length)
        found.push(...page.map((o) => o.name))
      }
      expect(found).toEqual(names)
      expect(Math.max(...pages)).toBeLessThanOrEqual(1000)
    })

    test('tells with a listing, an empty one too, what the time is by the clock that stamps objects', async () => {
      await store.put('packs/before', bytesBody('x'))
      for (const prefix of ['packs/', 'nothing/']) {
        const times: number[] = []
        for await (const page of store.list(prefix, { onTime: (at) => times.push(at) }))
          expect([page.length, times.length]).not.toContain(0)
        expect(times).not.toEqual([])
        await store.remove('packs/after')
        await store.put('packs/after', bytesBody('x'))
        const [before, after] = [await store.head('packs/before'), await store.head('packs/after')]
        // Some tell whole seconds.
        const seconds = [before!.storedAt, ...times, after!.storedAt].map((at) => Math.floor(at / 1000))
        expect(seconds).toEqual(seconds.toSorted((a, b) => a - b))
      }
    })

    test('removes an object, and succeeds where there is none', async () => {
      await store.put('packs/gone', bytesBody('x'))
      await store.remove('packs/gone')
      expect(await store.head('packs/gone')).toBeUndefined()
      await store.remove('packs/gone')
      await store.remove('never/was')
      expect(await store.put('packs/gone', bytesBody('again'))).toEqual({ created: true })
    })

    test('refuses names outside the grammar before it does anything', async () => {
      for (const name of ['', '/', '/a', 'a/', 'a//b', '.', '..', 'a/../b', '../a', 'A', 'ä', 'a b', 'a\n', 'x'.repeat(201)]) {
        await expectCode(store.put(name, bytesBody('x')), 'failed')
        await expectCode(store.get(name, { limitBytes: 1 }), 'failed')
        await expectCode(store.getRange(name, { offset: 0, length: 1 }), 'failed')
        await expectCode(store.head(name), 'failed')
        await expectCode(store.remove(name), 'failed')
      }
      await expectCode(listAll(store, 'no-slash'), 'failed')
      await expectCode(store.getRange('a', { offset: -5, length: 4 }), 'failed')
      await expectCode(store.getRange('a', { offset: 0.5, length: 4 }), 'failed')
      expect(await listAll(store)).toEqual([])
    })

    test('does nothing for a caller that has already cancelled', async () => {
      const signal = AbortSignal.abort()
      await expectCode(store.put('packs/cancelled', bytesBody('x'), { signal }), 'cancelled')
      await expectCode(store.get('packs/cancelled', { limitBytes: 1, signal }), 'cancelled')
      await expectCode(store.head('packs/cancelled', { signal }), 'cancelled')
      await expectCode(store.remove('packs/cancelled', { signal }), 'cancelled')
      expect(await store.head('packs/cancelled')).toBeUndefined()
    })

    test('takes names of the full length', async () => {
      const name = `packs/${'n'.repeat(194)}`
      await store.put(name, bytesBody('x'))
      expect((await listAll(store, 'packs/')).map((o) => o.name)).toEqual([name])
    })
  })
}

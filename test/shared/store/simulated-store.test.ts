// The simulated store must lie exactly as told, or the suites that rest on it prove nothing.
import { assert, asyncProperty, string } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import type { Fault, StoreOperation } from '../../_support/simulated-store.ts'
import { atCall, atOperation, onNames, seededFaults, SimulatedBucket, SimulatedCrash } from '../../_support/simulated-store.ts'
import { bytesBody, expectCode, listAll } from '../../contract/store-contract.ts'

function bucketWith(...names: string[]): { bucket: SimulatedBucket; clock: ReturnType<typeof simulatedClock>; ready: Promise<void> } {
  const clock = simulatedClock()
  const bucket = new SimulatedBucket({ clock })
  const store = bucket.store()
  const ready = (async () => {
    for (const name of names) await store.put(name, bytesBody(name))
    clock.advance(1000)
  })()
  return { bucket, clock, ready }
}

describe('a simulated store', () => {
  test('fails a call before or after its effect', async () => {
    for (const when of ['before', 'after'] as const) {
      const { bucket } = bucketWith()
      bucket.setFaults(atCall(1, { kind: 'fail', when, code: 'store-unreachable' }))
      await expectCode(bucket.store().put('a', bytesBody('x')), 'store-unreachable')
      expect(bucket.content('a')?.toString()).toBe(when === 'after' ? 'x' : undefined)
    }
  })

  test('ends an actor for good at a crash, and leaves the others alone', async () => {
    const { bucket } = bucketWith()
    const [one, two] = [bucket.store('one'), bucket.store('two')]
    bucket.setFaults(atCall(1, { kind: 'crash', when: 'after' }))
    await expect(one.put('a', bytesBody('x'))).rejects.toBeInstanceOf(SimulatedCrash)
    await expect(one.get('a', { limitBytes: 9 })).rejects.toBeInstanceOf(SimulatedCrash)
    expect((await two.get('a', { limitBytes: 9 })).toString()).toBe('x')
  })

  test('tears, loses and delays puts that it has acknowledged', async () => {
    const { bucket, clock } = bucketWith()
    const store = bucket.store()
    bucket.setFaults(onNames('torn', atOperation('put', { kind: 'torn', keepBytes: 2, reported: 'success' })))
    expect(await store.put('torn', bytesBody('12345'))).toEqual({ created: true })
    expect((await store.get('torn', { limitBytes: 9 })).toString()).toBe('12')
    bucket.setFaults(atOperation('put', { kind: 'lost' }))
    expect(await store.put('lost', bytesBody('x'))).toEqual({ created: true })
    await expectCode(store.get('lost', { limitBytes: 9 }), 'not-found')
    bucket.setFaults(atOperation('put', { kind: 'late', ms: 500 }))
    await store.put('late', bytesBody('x'))
    expect(await store.head('late')).toBeUndefined()
    expect((await listAll(store)).map((o) => o.name)).toEqual(['torn'])
    clock.advance(500)
    expect((await listAll(store)).map((o) => o.name)).toEqual(['late', 'torn'])
  })

  test('answers stale, lists short, lists ghosts, keeps what it removed', async () => {
    const { bucket, ready } = bucketWith('a', 'b', 'c')
    await ready
    const store = bucket.store()
    await store.put('d', bytesBody('new'))
    bucket.setFaults(atOperation('list', { kind: 'stale', ms: 10 }))
    expect((await listAll(store)).map((o) => o.name)).toEqual(['a', 'b', 'c'])
    bucket.setFaults(atOperation('list', { kind: 'short-list', drop: 3 }))
    expect((await listAll(store)).map((o) => o.name)).toEqual(['a'])
    bucket.setFaults(atOperation('list', { kind: 'ghost', name: 'bb', bytes: 7 }))
    expect((await listAll(store)).map((o) => o.name)).toEqual(['a', 'b', 'bb', 'c', 'd'])
    bucket.setFaults(atOperation('remove', { kind: 'undead' }))
    await store.remove('a')
    expect(bucket.names()).toEqual(['a', 'b', 'c', 'd'])
  })

  test('flips a bit of what is read and nothing of what is stored', async () => {
    const { bucket, ready } = bucketWith('a')
    await ready
    bucket.setFaults(atOperation('get', { kind: 'flipped', bit: 0 }, 1))
    expect((await bucket.store().get('a', { limitBytes: 9 })).toString()).toBe('`')
    expect((await bucket.store().get('a', { limitBytes: 9 })).toString()).toBe('a')
    bucket.tamper('a', () => undefined)
    await expectCode(bucket.store().get('a', { limitBytes: 9 }), 'not-found')
  })

  test('holds locks, capacity, versions and rights', async () => {
    const clock = simulatedClock()
    const locked = new SimulatedBucket({ clock, lockMs: 1000 })
    await locked.store().put('a', bytesBody('x'))
    await expectCode(locked.store().remove('a'), 'store-refused')
    expect(await locked.store().diagnostics?.overwrite('a', Buffer.from('y'))).toBe('refused')
    clock.advance(1000)
    await locked.store().remove('a')
    const small = new SimulatedBucket({ clock, capacityBytes: 3 })
    await expectCode(small.store().put('a', bytesBody('1234')), 'store-full')
    const versioned = new SimulatedBucket({ clock, versioned: true, conditional: false })
    await versioned.store().put('a', bytesBody('1'))
    await versioned.store().put('a', bytesBody('2'))
    expect(versioned.history('a').map(String)).toEqual(['1', '2'])
    const writer = versioned.store('appliance', { remove: false, get: false })
    await expectCode(writer.remove('a'), 'store-refused')
    await expectCode(writer.get('a', { limitBytes: 9 }), 'store-refused')
    expect(versioned.trace.at(-1)).toMatchObject({ actor: 'appliance', operation: 'get', name: 'a', outcome: 'store-refused' })
  })

  test('replays a run from its seed', async () => {
    const faults: Fault[] = [
      { kind: 'fail', when: 'after', code: 'store-unreachable' },
      { kind: 'lost' },
      { kind: 'torn', keepBytes: 1, reported: 'failure' },
    ]
    const operations: StoreOperation[] = ['put', 'list']
    const run = async (seed: string): Promise<unknown> => {
      const bucket = new SimulatedBucket({ clock: simulatedClock() })
      bucket.setFaults(
        seededFaults(
          seededRandom(seed),
          faults.map((fault) => ({ perMille: 200, operations, fault })),
        ),
      )
      const outcomes = []
      for (let i = 0; i < 20; i++) outcomes.push(await bucket.store().put(`n${i}`, bytesBody('abc')).catch(String))
      return [outcomes, bucket.trace, bucket.names()]
    }
    await assert(
      asyncProperty(string(), async (seed) => {
        expect(await run(seed)).toEqual(await run(seed))
      }),
      { numRuns: 20 },
    )
  })

  test('takes time from the clock, and a cancelled caller does not wait for it', async () => {
    const { bucket, clock } = bucketWith()
    bucket.setFaults(() => [{ kind: 'latency', ms: 100 }])
    let done = false
    const put = bucket
      .store()
      .put('a', bytesBody('x'))
      .then(() => (done = true))
    await Promise.resolve()
    expect(done).toBe(false)
    clock.advance(100)
    await put
    const controller = new AbortController()
    const cancelled = bucket.store().put('b', bytesBody('x'), { signal: controller.signal })
    controller.abort()
    await expectCode(cancelled, 'cancelled')
    expect(bucket.names()).toEqual(['a'])
  })
})

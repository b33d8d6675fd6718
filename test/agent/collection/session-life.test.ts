// Which sessions may be at work: told by names and by the store's times alone, to the millisecond (design section 7).
import { describe, expect, test } from 'vitest'
import { loadSessionLives, SILENT_MS } from '../../../agent/collection/session-life.ts'
import { simulatedClock } from '../../_support/simulated-clock.ts'
import { SimulatedBucket } from '../../_support/simulated-store.ts'

const DAY = 86_400_000
const START = 1_000_000 * DAY
const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((letter) => letter.repeat(32)) as [string, string, string, string]

async function livesOf(
  stored: readonly (readonly [day: number, name: string])[],
  objects: readonly (readonly [session: string, day: number])[],
  more: { committed?: string[]; now?: number } = {},
) {
  const clock = simulatedClock({ startMs: START })
  const bucket = new SimulatedBucket({ clock })
  const store = bucket.store()
  for (const [day, name] of stored) {
    clock.advance(START + day * DAY - clock.now())
    await store.put(name, { kind: 'bytes', bytes: Buffer.of(1) })
  }
  const listed = objects.map(([session, day]) => ({
    session,
    random: '0'.repeat(32),
    info: { name: `packs/${session}`, bytes: 1, storedAt: START + day * DAY },
  }))
  const lives = await loadSessionLives(store, listed, new Set(more.committed), more.now ?? START + 9 * DAY)
  const times = Object.fromEntries(
    [...lives.all].map(([session, life]) => [session[0]!, [life.startedAt, life.lastAt].map((at) => (at - START) / DAY)]),
  )
  return { ...lives, times }
}

describe('the life of a session', () => {
  test('begins with its session object, or the first thing of it, and reaches to the last', async () => {
    const { times, all } = await livesOf(
      [
        [1, `sessions/${a}`],
        [6, `sessions/${b}`],
      ],
      [
        [a, 4],
        [a, 2],
        [a, 3],
        [b, 5],
        [c, 7],
        [c, 6],
        [c, 8],
      ],
    )
    expect(times).toEqual({ a: [1, 4], b: [6, 6], c: [6, 8] })
    for (const [session, life] of all) expect(life).toMatchObject({ session, ended: false })
  })

  test('is at work until seven days after it was last heard of', async () => {
    const at = (now: number) => livesOf([[0, `sessions/${a}`]], [[a, 1]], { now: START + DAY + now })
    expect((await at(SILENT_MS - 1)).isLive(a)).toBe(true)
    expect((await at(SILENT_MS)).isLive(a)).toBe(false)
    expect((await at(0)).isLive(b)).toBe(false)
  })

  test('is over with its end object, and with a snapshot that is there or was forgotten', async () => {
    const { all, isLive, names } = await livesOf(
      [
        [0, `sessions/${a}`],
        [0, `sessions/${b}`],
        [0, `sessions/${c}`],
        [1, `ends/${b}`],
        [1, `ends/${d}`],
      ],
      [[c, 2]],
      { committed: [c], now: START + 2 * DAY },
    )
    expect([a, b, c, d].map(isLive)).toEqual([true, false, false, false])
    expect([a, b, c, d].map((session) => all.get(session)?.ended)).toEqual([false, true, true, undefined])
    expect(names).toEqual([
      { kind: 'session', session: a },
      { kind: 'session', session: b },
      { kind: 'session', session: c },
      { kind: 'end', session: b },
      { kind: 'end', session: d },
    ])
  })

  test('is not made of names that no session has', async () => {
    const { all, names } = await livesOf(
      [
        [0, 'sessions/short'],
        [0, `ends/${a}x`],
      ],
      [],
    )
    expect(all.size).toBe(0)
    expect(names).toEqual([])
  })
})

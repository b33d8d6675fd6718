// Collection over months: the store stays as small as what is kept, and what the collections themselves write goes too (design section 7; obligation O10).
import { describe, expect, test } from 'vitest'
import { fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

const DAY = 86_400_000

describe('a collection', () => {
  test('condemns packs that are mostly dead for reuse: what is left in them is moved or stored again, and they go', async () => {
    const engine = await makeEngine({ limits: { packBytes: 30_000 } })
    for (let i = 0; i < 60; i++) writeFile(engine, `/src/${i}`, fixtureRandom(`${i} first`).bytes(2000))
    engine.pass()
    const ids = [(await engine.backup()).snapshot!.ref.random]
    const stored: number[] = []
    for (let day = 1; day <= 30; day++) {
      for (let i = 0; i < 60; i++)
        if (i % 20 !== 0 && (i + day) % 9 === 0) writeFile(engine, `/src/${i}`, fixtureRandom(`${i} ${day}`).bytes(2000))
      engine.clock.advance(DAY)
      ids.push((await engine.backup()).snapshot!.ref.random)
      if (ids.length > 3) await engine.forget(ids.shift()!)
      await engine.prune({ windowMs: 0 })
      expect(engine.newest()).toEqual(engine.source())
      stored.push(engine.bucket.names('packs/').reduce((sum, name) => sum + engine.bucket.content(name)!.length, 0))
    }
    const trees = engine.reader().snapshots.map((snapshot) => engine.reader().tree(snapshot))
    expect(trees).toHaveLength(3)
    expect(Math.max(...stored.slice(15)), stored.join(' ')).toBeLessThan(Math.max(...stored.slice(0, 15)) * 1.3)
  })

  test('lets lists, replaced index files, forget records and sessions go when nothing depends on them', async () => {
    const engine = await makeEngine({ limits: { packBytes: 6000, uploadsAtOnce: 2 } })
    writeFile(engine, '/src/kept', fixtureRandom('kept').bytes(30_000))
    for (let day = 0; day < 150; day += 5) {
      writeFile(engine, '/src/changing', fixtureRandom(`day ${day}`).bytes(5000))
      engine.clock.advance(5 * DAY)
      const { snapshot } = await engine.backup()
      if (day % 10 === 0) await engine.forget(snapshot!.ref.random)
      await engine.prune()
    }
    expect(engine.newest()).not.toEqual(new Map())
    expect(engine.bucket.names('lists/').length).toBeLessThan(60)
    const sessions = new Set(engine.bucket.names('sessions/').map((name) => name.slice(9)))
    expect(sessions.size).toBeLessThan(40)
  })
})

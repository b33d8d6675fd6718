// A line to a real S3 server that harms connections: delays, a few bytes at a time, cuts, resets, half-closes, and silence. A run over it ends
// well, or with 14 and no snapshot that does not restore; and the next one, over a line that works, completes.
import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { openStore, storeConfigFromEnv } from '@holdfast/shared/store/location.ts'
import type { S3Server } from '../../demo/s3-server.ts'
import { seededNumbers } from '../_support/awkward-tree.ts'
import { type Fault, startFaultyProxy } from '../_support/faulty-proxy.ts'
import { startRadosgw } from '../_support/radosgw.ts'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { KilledRepository, VICTIMS } from './_support/killed-repository.ts'
import { randomFault } from './_support/random-fault.ts'

const ROUNDS = soak ? 60 : 3
const COMMANDS = ['backup', 'backup', 'restore', 'prune', 'check', 'backup', 'repair', 'forget'] as const
const seed = rotatingSeed()

let s3: S3Server
beforeAll(async () => {
  s3 = await startRadosgw()
})
afterAll(() => s3?.stop())

it(
  'commands over a line that harms every second connection end well or with 14, a check with what it could not look at, and leave nothing that does not restore',
  async () => {
    const started = systemClock.monotonicMs()
    const number = createHash('sha256').update(`lines ${seed}`).digest().readUInt32LE()
    const next = seededNumbers(number)
    let isBad = false
    const proxy = await startFaultyProxy(
      () => Number(new URL(s3.endpoint).port),
      () => (isBad ? randomFault(next, 2 ** 21) : { kind: 'none' }),
    )
    const replay = `HOLDFAST_SEED=${seed}${soak ? ' HOLDFAST_SOAK=1' : ''}`
    const at = await KilledRepository.inS3({ ...s3, endpoint: proxy.url }, 'lines', replay, number)
    let failed = 0
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const victim = VICTIMS.find(({ name }) => name === COMMANDS[round % COMMANDS.length])!
        await at.change()
        isBad = true
        const fault = `round ${round}, over a bad line`
        // A check has a third answer: a pack that could not be looked at is neither good nor damaged.
        const ended = await at.run(victim, fault, victim.name === 'check' ? [0, 3, 14] : [0, 14])
        isBad = false
        if (ended.exitCode === 14) {
          failed += 1
          expect(ended.code, `${victim.name}, ${fault}: ${ended.said}`).toMatch(/^store-(?:unreachable|refused)$/)
        }
        await victim.after?.(at)
        if (round % 4 === 3) await at.rest()
      }
      await at.rest()
      expect(await at.compareAll()).toBeGreaterThan(0)
      const harmed = [...proxy.harmed].map(([kind, count]) => `${count} ${kind}`).join(', ')
      expect(proxy.harmed.size, `no connection was harmed: ${replay}`).toBeGreaterThan(0)
      soakResult({
        suite: 'lines',
        figure: `commands over a bad line to a real S3 server (${harmed}; ${failed} ended with 14)`,
        asked: ROUNDS,
        value: ROUNDS,
        violations: 0,
        seed,
        seconds: Math.round((systemClock.monotonicMs() - started) / 1000),
      })
    } finally {
      await at.close()
      await proxy.close()
    }
  },
  soak ? 3_600_000 : 240_000,
)

it.each<[string, Fault]>([
  ['before the first byte goes up', { kind: 'black-hole', atByte: 1, answers: false }],
  ['in the middle of a body', { kind: 'black-hole', atByte: 100_000, answers: false }],
  ['in place of an answer', { kind: 'black-hole', atByte: 1, answers: true }],
])(
  'silence %s ends with the time in which a byte must move: the next connection serves, and where none does it is said',
  async (_, fault) => {
    let harmed = 1
    const proxy = await startFaultyProxy(
      () => Number(new URL(s3.endpoint).port),
      () => (harmed-- > 0 ? fault : { kind: 'none' }),
    )
    const access = storeConfigFromEnv({ AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey })
    const config = { ...access, stallMs: 400, retry: { attempts: 3, baseMs: 1, capMs: 2 } }
    const bucket = `silence-${createHash('sha256').update(JSON.stringify(fault)).digest('hex').slice(0, 8)}`
    await s3.createBucket(bucket)
    const store = await openStore(`s3:${proxy.url}/${bucket}/one`, config, { clock: systemClock, random: systemRandom })
    try {
      const bytes = systemRandom.bytes(300_000)
      await store.put('packs/aa/one', { kind: 'bytes', bytes })
      expect(proxy.harmed.get('black-hole')).toBe(1)
      expect((await store.get('packs/aa/one', { limitBytes: 400_000 })).equals(bytes)).toBe(true)
      await store.close()
      harmed = Infinity
      const again = await openStore(`s3:${proxy.url}/${bucket}/one`, config, { clock: systemClock, random: systemRandom })
      await expect(again.put('packs/aa/two', { kind: 'bytes', bytes })).rejects.toMatchObject({ code: 'store-unreachable' })
      await again.close()
    } finally {
      await proxy.close()
    }
  },
)

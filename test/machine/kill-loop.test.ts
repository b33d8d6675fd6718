// Real commands on real stores, killed at random moments of their work, again and again: what was reported good restores bit by bit, whatever
// else stands in the store is whole, and the next backup succeeds. By default a few kills of the day's seed; in a soak, hundreds.
import { createHash } from 'node:crypto'
import { afterAll, expect, it } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import type { S3Server } from '../../demo/s3-server.ts'
import { startRadosgw } from '../_support/radosgw.ts'
import { rotatingSeed, soak, soakResult } from '../_support/soak.ts'
import { KilledRepository, VICTIMS } from './_support/killed-repository.ts'

/** Kills asked for, kills between two rests, and kills in one repository before it is compared as a whole and a new one begins. */
type Share = { readonly kind: string; readonly kills: number; readonly between: number; readonly each: number }
const SHARES: readonly Share[] = soak
  ? [
      { kind: 'the directory store', kills: 400, between: 10, each: 40 },
      { kind: 'a real S3 server', kills: 80, between: 10, each: 40 },
    ]
  : [
      { kind: 'the directory store', kills: 10, between: 5, each: 10 },
      { kind: 'a real S3 server', kills: 5, between: 5, each: 5 },
    ]
/** Some end before their moment comes. */
const ATTEMPTS_PER_KILL = 3

let s3: S3Server | undefined
afterAll(async () => s3?.stop())

it.each(SHARES)(
  'commands on $kind, killed $kills times at moments of a seed, lose nothing that was reported and leave nothing that does not restore',
  async ({ kind, kills: asked, between, each }) => {
    const seed = rotatingSeed()
    const started = systemClock.monotonicMs()
    let [kills, compared] = [0, 0]
    const byCommand: Record<string, number> = {}
    if (kind === 'a real S3 server') s3 = await startRadosgw()
    for (let season = 0; kills < asked; season++) {
      const number = createHash('sha256').update(`${seed}/${kind}/${season}`).digest().readUInt32LE()
      const replay = `HOLDFAST_SEED=${seed}${soak ? ' HOLDFAST_SOAK=1' : ''}, repository ${season} of ${kind}`
      const at =
        s3 === undefined || kind !== 'a real S3 server'
          ? await KilledRepository.inDirectory(replay, number)
          : await KilledRepository.inS3(s3, `kills-${season}`, replay, number)
      try {
        const until = Math.min(asked, kills + each)
        for (let attempts = 1; kills < until; attempts++) {
          expect(attempts, `too few of ${attempts} commands were there to be killed: ${replay}`).toBeLessThanOrEqual(
            each * ATTEMPTS_PER_KILL,
          )
          if (await at.kill(VICTIMS)) kills += 1
          if (attempts % between === 0) await at.rest()
        }
        await at.rest()
        compared += await at.compareAll()
        for (const [name, count] of at.kills) byCommand[name] = (byCommand[name] ?? 0) + count
      } finally {
        await at.close()
      }
    }
    const seconds = Math.round((systemClock.monotonicMs() - started) / 1000)
    const commands = Object.entries(byCommand)
      .map(([name, count]) => `${count} ${name}`)
      .join(', ')
    soakResult({
      suite: 'kills',
      figure: `real kills of commands on ${kind} (${commands}); ${compared} snapshots compared`,
      asked,
      value: kills,
      violations: 0,
      seed,
      seconds,
    })
    expect(kills).toBeGreaterThanOrEqual(asked)
  },
  soak ? 3_600_000 : 240_000,
)

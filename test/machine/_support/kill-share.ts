// A share of the kill loop: real commands on one kind of store, killed at random moments of their work, again and again.
import { createHash } from 'node:crypto'
import { expect } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { REAL_KILLS, rotatingSeed, soak, soakResult } from '../../_support/soak.ts'
import { type KilledRepository, type Victim, VICTIMS } from './killed-repository.ts'

export type KillShare = {
  /** What the commands work on, in words. */
  readonly kind: string
  /** The commands; all of them where none are given. */
  readonly victims?: readonly Victim[]
  /** Kills asked for. */
  readonly kills: number
  /** Attempts between two rests. */
  readonly between: number
  /** Kills in one repository before it is compared as a whole and a new one begins. */
  readonly each: number
  /** A new repository; `season` counts them. */
  readonly open: (season: number, replay: string, number: number) => Promise<KilledRepository>
}

/** Some end before their moment comes. */
const ATTEMPTS_PER_KILL = 3

/** Kills until as many were killed as are asked for, and keeps the figure. */
export async function killShare({ kind, victims = VICTIMS, kills: asked, between, each, open }: KillShare): Promise<void> {
  const seed = rotatingSeed()
  const started = systemClock.monotonicMs()
  let [kills, compared] = [0, 0]
  const byCommand: Record<string, number> = {}
  for (let season = 0; kills < asked; season++) {
    const number = createHash('sha256').update(`${seed}/${kind}/${season}`).digest().readUInt32LE()
    const replay = `HOLDFAST_SEED=${seed}${soak ? ' HOLDFAST_SOAK=1' : ''}, repository ${season} of ${kind}`
    const at = await open(season, replay, number)
    try {
      const until = Math.min(asked, kills + each)
      for (let attempts = 1; kills < until; attempts++) {
        expect(attempts, `too few of ${attempts} commands were there to be killed: ${replay}`).toBeLessThanOrEqual(each * ATTEMPTS_PER_KILL)
        if (await at.kill(victims)) kills += 1
        if (attempts % between === 0) await at.rest()
      }
      await at.rest()
      compared += await at.compareAll()
      for (const [name, count] of at.kills) byCommand[name] = (byCommand[name] ?? 0) + count
    } finally {
      await at.close()
    }
  }
  const commands = Object.entries(byCommand)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ')
  soakResult({
    suite: 'kills',
    figure: `${REAL_KILLS} commands on ${kind} (${commands}); ${compared} snapshots compared`,
    asked,
    value: kills,
    violations: 0,
    seed,
    seconds: Math.round((systemClock.monotonicMs() - started) / 1000),
  })
  expect(kills).toBeGreaterThanOrEqual(asked)
}

// Real commands on a directory, killed at random moments of their work, again and again: what was reported good restores bit by bit, whatever else
// stands in the store is whole, and the next backup succeeds. By default a few kills of the day's seed; in a soak, hundreds.
import { it } from 'vitest'
import { soak } from '../_support/soak.ts'
import { KilledRepository } from './_support/killed-repository.ts'
import { killShare } from './_support/kill-share.ts'

it(
  'commands on a directory, killed at moments of a seed, lose nothing that was reported and leave nothing that does not restore',
  () =>
    killShare({
      kind: 'the directory store',
      ...(soak ? { kills: 400, between: 10, each: 40 } : { kills: 10, between: 5, each: 10 }),
      open: (_, replay, number) => KilledRepository.inDirectory(replay, number),
    }),
  soak ? 3_600_000 : 240_000,
)

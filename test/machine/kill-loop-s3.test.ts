// The same kill loop on a real S3 server: one that all its repositories share, each in a bucket of its own.
import { afterAll, beforeAll, it } from 'vitest'
import type { S3Server } from '../../demo/s3-server.ts'
import { startRadosgw } from '../_support/radosgw.ts'
import { soak } from '../_support/soak.ts'
import { KilledRepository, VICTIMS } from './_support/killed-repository.ts'
import { killShare } from './_support/kill-share.ts'

let s3: S3Server
beforeAll(async () => {
  s3 = await startRadosgw()
}, 120_000)
afterAll(() => s3?.stop())

it(
  'commands on a real S3 server, killed at moments of a seed, lose nothing that was reported and leave nothing that does not restore',
  () =>
    killShare({
      kind: 'a real S3 server',
      // An init works on another repository, which stands in a directory.
      victims: VICTIMS.filter(({ name }) => name !== 'init'),
      ...(soak ? { kills: 70, between: 10, each: 35 } : { kills: 5, between: 5, each: 5 }),
      open: (season, replay, number) => KilledRepository.inS3(s3, `kills-${season}`, replay, number),
    }),
  soak ? 3_600_000 : 240_000,
)

// A daemon that ends for want of room on its own disk begins anew by itself; what else ends it stays an end.
import { expect, it } from 'vitest'
import type { Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { silentLog } from '@holdfast/shared/log.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { throughFullDisks } from '../../../agent/daemon/full-disk.ts'
import { FileError } from '../../../agent/file-system/file-system.ts'

const clock: Clock = { now: () => 0, monotonicMs: () => 0, sleep: async () => undefined }
const full = (code: 'local-disk' | 'journal-full', errno: string): HoldfastError =>
  new HoldfastError(code, 'the state directory cannot be used', { cause: new FileError('write', errno) })

/** How often a daemon that ends in these ways, one after the other, is begun, and what comes of it in the end. */
async function begun(ends: readonly (HoldfastError | undefined)[]): Promise<{ times: number; end: unknown; events: string[] }> {
  let times = 0
  const events: string[] = []
  const log = { ...silentLog, error: (event: string) => void events.push(event) }
  const parts = { clock, random: systemRandom, log, signal: new AbortController().signal }
  const end = await throughFullDisks(parts, async () => {
    const how = ends[times++]
    if (how !== undefined) throw how
  }).then(
    () => 'stopped',
    (error: unknown) => error,
  )
  return { times, end, events }
}

it('begins anew after each end for want of room, says so, and ends as it is told to', async () => {
  const ends = [full('local-disk', 'ENOSPC'), full('journal-full', 'EDQUOT'), undefined]
  expect(await begun(ends)).toEqual({ times: 3, end: 'stopped', events: ['disk-full', 'disk-full'] })
})

it.each([
  full('local-disk', 'EIO'),
  new HoldfastError('journal-full', 'the journal holds all that it may'),
  new HoldfastError('damaged', 'the journal is damaged'),
])('passes on an end that no room would cure: %s', async (error) => {
  expect(await begun([error])).toEqual({ times: 1, end: error, events: [] })
})

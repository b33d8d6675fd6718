// The journal: a prefix of what was written after any crash, all that was acknowledged, and damage told apart from a torn tail (O4).
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeDelivery, encodeFileRecords, FIRST_PREVIOUS, verifyRecord } from '@holdfast/shared/record.ts'
import { signingKey } from '@holdfast/shared/signing.ts'
import { openJournal, type Journal, type RecordDraft } from '../../../agent/daemon/journal.ts'
import { openStateDirectory } from '../../../agent/daemon/state-directory.ts'
import { SAMPLE, transmissionHeader } from '../../_support/record-headers.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { crashFileSystem, SimulatedCrash, type CrashFileSystem } from './_support/crash-file-system.ts'

const random = seededRandom('journal')
const key = signingKey(random.bytes(32))
const STATE = '/state'

function open(fileSystem: CrashFileSystem, options: { limitBytes?: number; segmentBytes?: number } = {}): Journal {
  const state = openStateDirectory({ fileSystem, path: Buffer.from(STATE), random, create: true })
  return openJournal({ directory: state.below('journal'), agentId: SAMPLE.agentId, key, random, ...options })
}

function draft(files = 1, code?: string): RecordDraft {
  const token = random.bytes(32)
  return (secret) => {
    const record = { kind: 'transmission', outcome: 'ok', code: 0, token, size: 4096, bytesNew: 4096, time: 1 } as const
    const body = encodeFileRecords(Array.from({ length: files }, () => record))
    return { header: transmissionHeader(body, secret, code === undefined ? {} : { code }), body }
  }
}

const sequences = (journal: Journal, after = 0): number[] => {
  const found: number[] = []
  for (let batch = journal.read(after); batch !== undefined; batch = journal.read(batch.last.seq)) {
    found.push(...decodeDelivery(batch.bytes).map((frame) => frame.seq))
  }
  return found
}
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)
const segmentPath = (journal: Journal): string => `${STATE}/journal/segment-${String(journal.stats().firstSeq).padStart(16, '0')}`

describe('the journal', () => {
  it('delivers what was appended, signed, chained and complete, also after it was opened again', () => {
    const fileSystem = crashFileSystem()
    const first = open(fileSystem)
    for (let i = 0; i < 5; i++) first.append(draft(i + 1))
    const journal = open(fileSystem)
    expect(journal.tornBytes).toBe(0)
    const frames = decodeDelivery(journal.read(0)!.bytes)
    let prev = FIRST_PREVIOUS
    for (const frame of frames) {
      expect(frame.prev).toEqual(prev)
      const opened = verifyRecord(SAMPLE.agentId, key.publicKey, frame)
      expect(opened.files).toHaveLength(frame.seq)
      expect(journal.hashAt(frame.seq)).toEqual(opened.hash)
      prev = opened.hash
    }
    expect(journal.end).toEqual({ seq: 5, hash: prev })
    expect(journal.read(5)).toBeUndefined()
  })

  it('cut at any byte keeps every whole record before the cut and goes on from there', () => {
    const whole = crashFileSystem()
    const journal = open(whole)
    const ends = [whole.dataOf(segmentPath(journal)).length]
    for (let i = 0; i < 2; i++) {
      journal.append(draft(1))
      ends.push(whole.dataOf(segmentPath(journal)).length)
    }
    const bytes = whole.dataOf(segmentPath(journal))
    for (let cut = ends[0]!; cut <= bytes.length; cut++) {
      const fileSystem = crashFileSystem()
      open(fileSystem)
      fileSystem.setData(`${STATE}/journal/segment-0000000000000001`, bytes.subarray(0, cut))
      const reopened = open(fileSystem)
      const kept = ends.filter((end) => end <= cut).length - 1
      expect(reopened.end.seq).toBe(kept)
      expect(reopened.tornBytes).toBe(cut - ends[kept]!)
      reopened.append(draft())
      expect(open(fileSystem).end).toEqual(reopened.end)
      expect(sequences(reopened)).toEqual(range(1, kept + 1))
    }
  })

  it('holds every acknowledged record after a crash at any step, whatever of the rest survived', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.boolean(),
        (crashStep, keep, keepNames) => {
          const fileSystem = crashFileSystem()
          let acknowledged = 0
          let forgotten = 0
          open(fileSystem)
          fileSystem.crashAt(crashStep)
          try {
            const journal = open(fileSystem, { segmentBytes: 1000 })
            for (let i = 0; i < 12; i++) {
              acknowledged = journal.append(draft()).seq
              if (i % 4 === 3) {
                forgotten = i - 1
                journal.forget(forgotten)
              }
            }
          } catch (error) {
            if (!(error instanceof SimulatedCrash)) throw error
          }
          fileSystem.reboot(keep, keepNames)
          const journal = open(fileSystem, { segmentBytes: 1000 })
          expect(journal.end.seq).toBeGreaterThanOrEqual(acknowledged)
          expect(journal.end.seq).toBeLessThanOrEqual(acknowledged + 1)
          const { firstSeq, lastSeq } = journal.stats()
          expect(firstSeq).toBeLessThanOrEqual(forgotten + 1)
          expect(sequences(journal, firstSeq - 1)).toEqual(range(firstSeq, lastSeq))
          journal.append(draft())
          expect(open(fileSystem).end).toEqual(journal.end)
        },
      ),
      { numRuns: 300 },
    )
  })

  it('refuses to start, changing nothing, where records stand behind damage', () => {
    const fileSystem = crashFileSystem()
    const journal = open(fileSystem)
    const ends: number[] = []
    for (let i = 0; i < 3; i++) {
      journal.append(draft())
      ends.push(fileSystem.dataOf(segmentPath(journal)).length)
    }
    const path = segmentPath(journal)
    const bytes = fileSystem.dataOf(path)
    for (let at = ends[0]!; at < ends[1]!; at += 7) {
      const changed = Buffer.from(bytes)
      changed[at]! ^= 1
      fileSystem.setData(path, changed)
      expect(() => open(fileSystem)).toThrow(expect.objectContaining({ code: 'damaged' }))
      expect(fileSystem.dataOf(path)).toEqual(changed)
    }
  })

  it('forgets whole segments only, never one with a record that is still needed, and keeps its count', () => {
    const fileSystem = crashFileSystem()
    const journal = open(fileSystem, { segmentBytes: 2000 })
    for (let i = 0; i < 10; i++) journal.append(draft())
    journal.forget(5)
    const { firstSeq } = journal.stats()
    expect(firstSeq).toBeGreaterThan(1)
    expect(firstSeq).toBeLessThanOrEqual(6)
    expect(sequences(journal, 5)).toEqual(range(6, 10))
    journal.forget(10)
    expect(journal.stats()).toMatchObject({ firstSeq: 11, lastSeq: 10 })
    const reopened = open(fileSystem)
    expect(reopened.end).toEqual(journal.end)
    expect(reopened.append(draft()).seq).toBe(11)
  })

  it('leaves nothing of a forgotten record on the disk', () => {
    const fileSystem = crashFileSystem()
    const journal = open(fileSystem)
    let token = Buffer.from('never there')
    journal.append((secret) => {
      const made = draft()(secret)
      token = Buffer.from(made.body.subarray(8, 40))
      return made
    })
    expect(fileSystem.allBytes().includes(token)).toBe(true)
    journal.forget(1)
    expect(fileSystem.allBytes().includes(token)).toBe(false)
  })

  it('full refuses a new run and still takes the end of one that began', () => {
    const journal = open(crashFileSystem(), { limitBytes: 8 * 1024 * 1024 + 2000 })
    journal.requireRoom()
    journal.append(draft())
    expect(() => {
      for (;;) journal.append(draft())
    }).toThrow(expect.objectContaining({ code: 'journal-full', exitCode: 15 }))
    journal.append(draft(), { closing: true })
    expect(() => journal.requireRoom()).toThrow(expect.objectContaining({ code: 'journal-full' }))
    journal.forget(journal.end.seq)
    journal.requireRoom()
  })

  it.each([
    ['write', 'ENOSPC', 'journal-full'],
    ['write', 'EIO', 'local-disk'],
    ['fsync', 'EIO', 'local-disk'],
    ['fsync', 'EDQUOT', 'journal-full'],
  ])('answers a %s that fails with %s as %s, and goes on once the disk does', (call, errno, code) => {
    const fileSystem = crashFileSystem()
    const journal = open(fileSystem)
    journal.append(draft())
    fileSystem.fail(call, errno, 1)
    expect(() => journal.append(draft())).toThrow(expect.objectContaining({ code }))
    expect(journal.append(draft()).seq).toBe(2)
    expect(sequences(open(fileSystem))).toEqual([1, 2])
  })

  it('is shared by two processes: each takes in what the other appended', () => {
    const fileSystem = crashFileSystem()
    const [daemon, commandLine] = [open(fileSystem, { segmentBytes: 1500 }), open(fileSystem, { segmentBytes: 1500 })]
    for (let i = 0; i < 6; i++) {
      daemon.append(draft())
      commandLine.append(draft())
    }
    expect(sequences(daemon)).toEqual(range(1, 12))
    daemon.forget(11)
    expect(commandLine.append(draft()).seq).toBe(13)
  })

  it('goes on behind what the server holds where the disk lost records, so that no number is used twice', () => {
    const fileSystem = crashFileSystem()
    const journal = open(fileSystem)
    journal.append(draft())
    const lost = { seq: 4, hash: Buffer.alloc(32, 7) }
    expect(journal.adopt(lost, 1)).toBe(0)
    expect(journal.append(draft()).seq).toBe(5)
    const reopened = open(fileSystem)
    expect(reopened.end.seq).toBe(5)
    expect(decodeDelivery(reopened.read(4)!.bytes)[0]!.prev).toEqual(lost.hash)
    expect(reopened.read(1)).toMatchObject({ from: 5, records: 1 })
  })

  it('tells behind that what the server has not accepted, each once, whatever a crash cuts off', () => {
    const lost = { seq: 40, hash: Buffer.alloc(32, 7) }
    for (const keep of [0, 0.5, 1])
      for (let calls = 1, isDone = false; !isDone; calls++) {
        const fileSystem = crashFileSystem()
        const journal = open(fileSystem)
        for (let i = 0; i < 5; i++) journal.append(draft(i + 1))
        const unsent = decodeDelivery(journal.read(2)!.bytes).map(({ body }) => body)
        fileSystem.crashAt(calls)
        try {
          expect(journal.adopt(lost, 2)).toBe(3)
          isDone = true
        } catch (error) {
          if (!(error instanceof SimulatedCrash)) throw error
        }
        fileSystem.reboot(keep, keep > 0)
        const again = open(fileSystem)
        if (again.end.seq < lost.seq) again.adopt(lost, 2)
        const told = decodeDelivery(again.read(2)!.bytes)
        expect(told.map(({ seq }) => seq)).toEqual([41, 42, 43])
        expect(told[0]!.prev).toEqual(lost.hash)
        expect(told.map((frame) => verifyRecord(SAMPLE.agentId, key.publicKey, frame).files.length)).toEqual([3, 4, 5])
        expect(told.map(({ body }) => body)).toEqual(unsent)
        expect(again.append(draft()).seq).toBe(44)
      }
  })

  it('tells all of that or none of it where the disk refuses some of it, and leaves nothing behind', () => {
    const lost = { seq: 40, hash: Buffer.alloc(32, 7) }
    for (const call of ['write', 'fsync', 'rename'])
      for (let good = 0, isDone = false; !isDone; good++) {
        const fileSystem = crashFileSystem()
        const journal = open(fileSystem, { segmentBytes: 1500 })
        for (let i = 0; i < 5; i++) journal.append(draft(3))
        fileSystem.fail(call, 'ENOSPC', 1, good)
        try {
          expect(journal.adopt(lost, 0)).toBe(5)
          isDone = true
          expect(good).toBeGreaterThan(1)
        } catch (error) {
          expect(error).toMatchObject({ code: 'journal-full' })
        }
        fileSystem.fail(call, 'ENOSPC', 0)
        const state = openStateDirectory({ fileSystem, path: Buffer.from(STATE), random })
        expect(
          state
            .below('journal')
            .names()
            .filter((name) => name.startsWith('tmp-')),
        ).toEqual([])
        if (journal.end.seq < lost.seq) journal.adopt(lost, 0)
        expect(sequences(journal)).toEqual(range(41, 45))
      }
  })

  it('reads no more at once than a delivery may hold', () => {
    const journal = open(crashFileSystem(), { segmentBytes: 3000 })
    for (let i = 0; i < 9; i++) journal.append(draft(3))
    expect(journal.read(0, { records: 4 })).toMatchObject({ records: 4, from: 1, last: { seq: 4 } })
    expect(journal.read(4, { bytes: 10 })).toMatchObject({ records: 1, last: { seq: 5 } })
  })
})

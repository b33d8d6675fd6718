// A file may have more holes than a tree entry can tell of: then the smallest are closed, and no more of them than must be.
import { expect, test } from 'vitest'
import { dataExtents } from '../../../agent/backup/data-extents.ts'

/** Data of `bytes` at the start of each step of the given lengths, a hole in the rest of it. */
function holey(bytes: number, steps: readonly number[]) {
  const starts = steps.map((_, i) => steps.slice(0, i).reduce((sum, step) => sum + step, 0))
  const size = starts.at(-1)! + steps.at(-1)!
  const file = {
    nextData: (_: number, offset: number) =>
      starts.some((at) => at <= offset && offset < at + bytes) ? offset : starts.find((at) => at >= offset),
    nextHole: (_: number, offset: number) => starts.find((at) => at <= offset && offset < at + bytes)! + bytes,
  }
  return { file, size }
}

test('holes that fit are all kept', () => {
  const { file, size } = holey(10, [100, 100, 100])
  expect(dataExtents(file, 1, size, 3)).toEqual([0, 100, 200].map((offset) => ({ offset, bytes: 10 })))
})

test('of holes of one size, only those beyond the limit are closed', () => {
  const { file, size } = holey(10, [100, 100, 100, 100, 100, 100])
  expect(dataExtents(file, 1, size, 4)).toEqual([
    { offset: 0, bytes: 10 },
    { offset: 100, bytes: 10 },
    { offset: 200, bytes: 10 },
    { offset: 300, bytes: 210 },
  ])
})

test('the smallest holes are closed first, the largest stay', () => {
  const { file, size } = holey(10, [50, 500, 60, 400, 70, 20])
  expect(dataExtents(file, 1, size, 3)).toEqual([
    { offset: 0, bytes: 60 },
    { offset: 550, bytes: 70 },
    { offset: 1010, bytes: 80 },
  ])
})

test('far more pieces than the limit end as no more than it', () => {
  const { file, size } = holey(
    1,
    Array.from({ length: 400 }, (_, i) => 3 + (i % 7)),
  )
  const extents = dataExtents(file, 1, size, 16) ?? []
  expect(extents.length).toBeGreaterThan(8)
  expect(extents.length).toBeLessThanOrEqual(16)
})

// Where the next drill of each series begins on the ring, under a name of the caller's for the series and the place of the repository. Local and disposable: where it is lost, the next drill begins somewhere else.
import { count, hex64 } from '@holdfast/shared/protocol/common.ts'
import { z } from 'zod'
import { isAbsent, writeDurably } from '../file-system/small-file.ts'
import { type Descriptor, type FileSystem } from '../file-system/file-system.ts'

const NAME = Buffer.from('rotation.json')
const EMPTY = Buffer.alloc(0)
const BYTES_MAX = 16 * 2 ** 20

const rotation = z.strictObject({ v: z.literal(1), series: z.record(hex64, count) })

/** The place for a series, undefined where none is known. */
export function placeOfSeries(fs: FileSystem, directory: Descriptor, series: string): number | undefined {
  const places = load(fs, directory)
  return Object.hasOwn(places, series) ? places[series] : undefined
}

/** Keeps the place that the next drill of a series begins at. Throws FileError. */
export function keepPlace(fs: FileSystem, directory: Descriptor, series: string, next: number): void {
  const kept = { v: 1, series: { ...load(fs, directory), [series]: next } }
  writeDurably(fs, directory, NAME, Buffer.from(JSON.stringify(kept)))
}

/** What does not parse is as good as lost. */
function load(fs: FileSystem, directory: Descriptor): Readonly<Record<string, number>> {
  try {
    const fd = fs.open(directory, NAME, 'read')
    try {
      const bytes = Buffer.alloc(Math.min(BYTES_MAX, fs.stat(fd, EMPTY).size))
      const length = fs.read(fd, bytes, 0, bytes.length, 0)
      const parsed = rotation.safeParse(JSON.parse(bytes.toString('utf8', 0, length)))
      return parsed.success ? parsed.data.series : {}
    } finally {
      fs.close(fd)
    }
  } catch (error) {
    if (isAbsent(error) || error instanceof SyntaxError) return {}
    throw error
  }
}

// A source tree that can be recognised anywhere: every name, content, attribute and link target in it carries a word that exists nowhere else.
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { posixFileSystem } from '../../../agent/file-system/posix-file-system.ts'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { seededNumbers } from '../../_support/awkward-tree.ts'

/** What must be found nowhere. `path` is the directory that agent.json names; the appliance's own configuration may hold it. */
export const MARKS = {
  path: 'Vq7RootJx5wK',
  directory: 'Vq7DirtJx5wK',
  name: 'Vq7NameJx5wK',
  content: 'Vq7BodyJx5wK',
  attribute: 'Vq7AttrJx5wK',
  target: 'Vq7LinkJx5wK',
} as const
/** Bytes that are no text, as content and as a name that is not UTF-8. */
export const BYTE_MARKS = {
  bytes: Buffer.from('ff00c3a9e1b7d20499fe8b31', 'hex'),
  byteName: Buffer.from('ffd1c5f3a9e7b2dd91fe8b', 'hex'),
} as const

const DIRECTORIES = 12
const FILES_IN_EACH = 15

/** The words of round `round` in one file of `length` bytes, so that no part of it is without. */
export function markedContent(round: number, length: number): Buffer {
  const line = Buffer.concat([Buffer.from(`${MARKS.content} line of round ${round}\n`), BYTE_MARKS.bytes])
  return Buffer.alloc(length, line)
}

/** Content that compresses to nothing less than itself, with the words in between. */
export function markedNoise(seed: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  const next = seededNumbers(seed)
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE(next(), at)
  for (let at = 0; at + 64 < length; at += 4096) bytes.write(`${MARKS.content}-${at}`, at)
  return bytes
}

export function markedFile(directory: number, file: number): string {
  return join(`${MARKS.directory}-${directory}`, `${MARKS.name}-${directory}-${file}.txt`)
}

/** Fills `source`; gives the number of regular files in it. */
export function makeMarkedTree(source: string): number {
  mkdirSync(source, { recursive: true })
  let files = 0
  const write = (path: string | Buffer, content: Buffer): void => {
    writeFileSync(path, content)
    files++
  }
  for (let directory = 0; directory < DIRECTORIES; directory++) {
    mkdirSync(join(source, `${MARKS.directory}-${directory}`))
    for (let file = 0; file < FILES_IN_EACH; file++) {
      const path = join(source, markedFile(directory, file))
      // Some stand in the tree itself, some share a segment, some are of several.
      const length = [40, 256, 257, 3000, 20_000][file % 5]!
      write(path, markedContent(directory * 100 + file, length))
      if (file % 5 === 0)
        for (const name of [`user.${MARKS.attribute}-${file}`, 'user.plain'])
          posixFileSystem.setAttribute(CWD, Buffer.from(path), Buffer.from(name), Buffer.from(`${MARKS.attribute} value ${directory}`))
    }
    symlinkSync(`/${MARKS.target}/${directory}`, join(source, `${MARKS.directory}-${directory}`, `${MARKS.name}-link`))
  }
  write(join(source, `${MARKS.name}-long.txt`), markedContent(7, 3_000_000))
  write(join(source, `${MARKS.name}-noise.bin`), markedNoise(7, 2_500_000))
  write(join(source, `${MARKS.name}-empty`), Buffer.alloc(0))
  write(Buffer.concat([Buffer.from(`${source}/`), BYTE_MARKS.byteName]), markedContent(8, 100))
  return files
}

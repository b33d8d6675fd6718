// A process that changes files as fast as it can, in every way in which files change under a backup: edited in place, truncated, grown, replaced by
// another file, a link, a pipe or a directory, removed and made again. Each write of content is one system call, and every 64 bytes of a file say
// which state they are of, so that a mixture of two shows. Arguments: directory, seed. Ends when its standard input ends.
import {
  appendFileSync,
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { seededNumbers } from '../../_support/awkward-tree.ts'
import { STATE_BLOCK, stateBytes } from './state-blocks.ts'

const FILES = 24
const [directory = '', seed = '0'] = process.argv.slice(2)
const next = seededNumbers(Number(seed))
const states: number[] = []
let state = 0

/** Lengths from nothing to several chunks, so that some are inline, some share a segment and some are read for long. */
const anyBlocks = (): number => Math.floor(2 ** (((next() % 1000) / 1000) * 16))

function isFile(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isFile() === true
}

function whole(path: string): void {
  rmSync(path, { recursive: true, force: true })
  writeFileSync(path, stateBytes(++state, 0, anyBlocks()))
}

const CHANGES: readonly ((path: string, i: number) => void)[] = [
  // In place, over all of it, in one call: no size changes, and the time perhaps not either.
  (path, i) => {
    if (!isFile(path)) return whole(path)
    const blocks = Math.floor(statSync(path).size / STATE_BLOCK)
    const fd = openSync(path, constants.O_WRONLY)
    try {
      writeSync(fd, stateBytes(++state, 0, blocks), 0, blocks * STATE_BLOCK, 0)
      states[i] = state
    } finally {
      closeSync(fd)
    }
  },
  (path) => {
    if (isFile(path)) truncateSync(path, Math.floor(statSync(path).size / STATE_BLOCK / 2) * STATE_BLOCK)
  },
  // Grown by blocks of the state that it has.
  (path, i) => {
    if (!isFile(path) || states[i] === undefined) return
    const blocks = statSync(path).size / STATE_BLOCK
    if (blocks < 2 ** 16) appendFileSync(path, stateBytes(states[i], blocks, 1 + (next() % 2000)))
  },
  (path, i) => {
    writeFileSync(`${path}.new`, stateBytes(++state, 0, anyBlocks()))
    if (!isFile(path)) rmSync(path, { recursive: true, force: true })
    renameSync(`${path}.new`, path)
    states[i] = state
  },
  (path) => {
    rmSync(path, { recursive: true, force: true })
    symlinkSync('elsewhere', path)
  },
  (path) => {
    rmSync(path, { recursive: true, force: true })
    mkdirSync(path)
  },
  (path) => {
    rmSync(path, { recursive: true, force: true })
    execFileSync('mkfifo', [path])
  },
  (path) => rmSync(path, { recursive: true, force: true }),
]
/** The quiet ways are chosen most often: the others leave nothing to read. */
const OFTEN = [0, 0, 0, 0, 0, 1, 2, 2, 3, 3, 3, 4, 5, 6, 7]

process.stdin.resume()
let isOver = false
process.stdin.once('end', () => (isOver = true))
for (let i = 0; i < FILES; i++) {
  whole(join(directory, `file-${i}`))
  states[i] = state
}
process.stdout.write('ready\n')
while (!isOver) {
  for (let k = 0; k < 4; k++) {
    const i = next() % FILES
    const path = join(directory, `file-${i}`)
    const before = state
    CHANGES[OFTEN[next() % OFTEN.length]!]!(path, i)
    if (state !== before) states[i] = state
    else if (!isFile(path)) delete states[i]
  }
  await setImmediate()
}
process.stdout.write(`${state} states\n`)

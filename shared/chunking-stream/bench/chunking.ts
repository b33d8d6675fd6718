// Measures one core's chunking speed: `node bench/chunking.ts [MiB]`. Before anything is timed, the cuts are compared with the
// reference's. "scan" tests every byte, "cuts" skips to min as chunking does, "chunks" is the async generator with its copies,
// "plain" is the reference's scan in plain JavaScript.
import { createCipheriv } from 'node:crypto'
import { createChunker, chunks, deriveTable, thresholdOf } from '../index.ts'
import { referenceCandidates, referenceCuts } from '../reference.ts'

const MIB = 1024 * 1024
const ROUNDS = 7
const length = Number(process.argv[2] ?? 64) * MIB
if (!(length >= 8 * MIB && length <= 1024 * MIB)) throw new RangeError('give the size of the input in MiB, 8 to 1024')

// The keystream of AES-256-CTR: random enough, the same everywhere, and quick to make.
const key = new Uint8Array(32).fill(7)
const bytes = createCipheriv('aes-256-ctr', key, new Uint8Array(16)).update(new Uint8Array(length))
const chunker = createChunker({ key, bufferBytes: length })
chunker.buffer.set(bytes)
const { min, max } = chunker
const threshold = thresholdOf(min, 2 * min)

function cuts(): number[] {
  const ends: number[] = []
  for (let start = 0; ;) {
    const end = chunker.nextCut(start, length, true)
    if (end === -1) return ends
    ends.push((start = end))
  }
}

function scan(): number {
  let found = 0
  for (let at = chunker.nextCandidate(64, length); at !== -1; at = at < length ? chunker.nextCandidate(at + 1, length) : -1) found++
  return found
}

const pieces: Uint8Array[] = []
for (let at = 0; at < length; at += 65_536) pieces.push(bytes.subarray(at, at + 65_536))
async function stream(): Promise<number> {
  let total = 0
  for await (const chunk of chunks(pieces, { key })) total += chunk.length
  return total
}

async function measure(name: string, act: () => unknown): Promise<void> {
  const speeds: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const began = process.hrtime.bigint()
    await act()
    speeds.push(length / Number(process.hrtime.bigint() - began))
  }
  speeds.sort((a, b) => a - b)
  console.log(`${name.padEnd(10)} median ${speeds[ROUNDS >> 1]?.toFixed(2)} GB/s, best ${speeds.at(-1)?.toFixed(2)} GB/s`)
}

const found = cuts()
const table = deriveTable(key, threshold)
const expected = referenceCuts(bytes, table, threshold, { min, max })
if (JSON.stringify(found) !== JSON.stringify(expected)) throw new Error('the cuts differ from those of the reference')
if ((await stream()) !== length) throw new Error('the stream form lost bytes')
console.log(
  `${length / MIB} MiB, ${found.length} chunks, mean ${Math.round(length / found.length)} bytes, as the reference cuts; Node ${process.version}`,
)

await measure('scan', scan)
await measure('cuts', cuts)
await measure('chunks', stream)
await measure('plain', () => referenceCandidates(bytes, table, threshold))

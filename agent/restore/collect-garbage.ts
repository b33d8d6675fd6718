// Collects garbage by the bytes of buffers that were dropped. V8 sees only the small handles of buffers and would let hundreds of megabytes
// of them wait, in each thread. Where the engine does not offer the call, nothing is done.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

type Collect = (options: { type: 'major' }) => void

function find(): Collect | undefined {
  setFlagsFromString('--expose-gc')
  const found: unknown = runInNewContext('typeof gc === "function" ? gc : undefined')
  return typeof found === 'function' ? (found as Collect) : undefined
}

/** A collection costs 5 to 20 ms with heaps as small as those of a restore: at this distance a hundredth of the time. */
const DROPPED_BYTES = 24 * 2 ** 20

let collect: Collect | undefined
let looked = false
let dropped = 0

/** Tells that buffers of about so many bytes are not needed any more. */
export function collectGarbage(bytes: number): void {
  dropped += bytes
  if (dropped < DROPPED_BYTES) return
  dropped = 0
  if (!looked) {
    looked = true
    collect = find()
  }
  collect?.({ type: 'major' })
}

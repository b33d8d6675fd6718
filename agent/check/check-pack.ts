// Whether the bytes of one pack are those that were stored, without any content key: the hash over everything before the trailer, and the
// hash of every sealed segment. Reads the pack once, a few megabytes at a time.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { ObjectInfo } from '@holdfast/shared/store/store.ts'
import { blake3 } from '../repository/blake3.ts'
import { readFooter } from '../repository/footer-reader.ts'
import { type ObjectRef, packName } from '@holdfast/shared/format/layout.ts'
import { type FooterSegment, TRAILER_BYTES } from '../repository/pack.ts'
import type { Repository } from '../repository/repository.ts'

const READ_BYTES = 4 * 2 ** 20

/** Throws `damaged`, `not-found` or what the store says. */
export async function checkPack(
  repository: Repository,
  ref: ObjectRef & { readonly info?: ObjectInfo },
  bytes: number,
  options: { signal?: AbortSignal | undefined; onRead?: (bytes: number) => void },
): Promise<void> {
  const { footer, trailer } = await readFooter(repository, ref, bytes, options.signal)
  const what = `pack ${ref.random}`
  const whole = blake3.running()
  const segments = segmentHashes(footer.segments, what)
  const end = bytes - TRAILER_BYTES
  for (let offset = 0; offset < end; offset += READ_BYTES) {
    const piece = await repository.store.getRange(
      packName(ref),
      { offset, length: Math.min(READ_BYTES, end - offset) },
      { signal: options.signal },
    )
    options.onRead?.(piece.length)
    whole.update(piece)
    segments(piece)
  }
  if (!whole.digest().equals(trailer.hash))
    throw new HoldfastError('damaged', `${what} is damaged: its bytes are not those that were stored`)
}

/** Takes the pack's bytes in order and compares the hash of each sealed segment as it ends. */
function segmentHashes(segments: readonly FooterSegment[], what: string): (piece: Buffer) => void {
  let next = 0
  let running = blake3.running()
  let left = segments[0]?.sealedBytes ?? 0
  return (piece) => {
    for (let at = 0; at < piece.length && next < segments.length;) {
      const length = Math.min(left, piece.length - at)
      running.update(piece.subarray(at, at + length))
      at += length
      left -= length
      if (left > 0) continue
      if (!running.digest().equals(segments[next]!.sealedHash))
        throw new HoldfastError('damaged', `${what} is damaged: segment ${next + 1} of ${segments.length} is not the one that was stored`)
      next += 1
      running = blake3.running()
      left = segments[next]?.sealedBytes ?? 0
    }
  }
}

// From candidates to cuts, as pure functions: candidates may be found in any order and in parallel (64 bytes of overlap between
// parts); this selection is the serial part, a few comparisons per chunk.

/** The sizes that selection needs. */
export interface CutSizes {
  readonly min: number
  readonly max: number
}

/**
 * The ends of all chunks of an input of `length` bytes, ascending, the last one `length` itself; none for an empty input.
 * `candidates` are all candidate offsets of the input, ascending. The same cuts as `Chunker.nextCut` gives from offset 0.
 * Throws RangeError when candidates are not ascending or lie outside the input.
 */
export function selectCuts(candidates: Iterable<number>, length: number, { min, max }: CutSizes): number[] {
  const cuts: number[] = []
  let start = 0
  let previous = 0
  for (const candidate of candidates) {
    if (candidate <= previous || candidate > length) {
      throw new RangeError(`candidate ${candidate} after ${previous} is not ascending within ${length} bytes`)
    }
    previous = candidate
    while (candidate - start > max) cuts.push((start += max))
    if (candidate - start >= min) cuts.push((start = candidate))
  }
  while (length - start > max) cuts.push((start += max))
  if (length > start) cuts.push(length)
  return cuts
}

/**
 * Whether `candidate` is an anchor: a cut for every scan that starts at or before `previous`, the candidate next before it, wherever
 * that scan cut until then. Proof: let c be that scan's last cut (or its start) at or before `previous`. Either c = previous, or
 * `previous` was passed over because previous - c < min; in both cases 0 <= previous - c < min. With d = candidate - previous and
 * min <= d <= max - min, the length candidate - c lies between min and max, and no candidate lies between the two.
 */
export function isAnchor(previous: number, candidate: number, { min, max }: CutSizes): boolean {
  const distance = candidate - previous
  return distance >= min && distance <= max - min
}

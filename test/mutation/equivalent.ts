// Changes that make no difference to anything that can be seen, each with the reason. They are counted apart and are no part of the score.

/** `line`: the whole line that is changed, so that an entry excuses no other; `change` as the run prints it. */
export type EquivalentMutant = { readonly file: string; readonly line: string; readonly change: string; readonly why: string }

export const EQUIVALENT: readonly EquivalentMutant[] = [
  {
    file: 'agent/keys/grant.ts',
    line: 'if (checked.get(id) !== commitment) {',
    change: 'ConditionalExpression → true',
    why: 'A check that was passed is made again; this only takes longer.',
  },
  {
    file: 'agent/keys/grant.ts',
    line: 'checked.set(id, commitment)',
    change: 'CallExpression → ;',
    why: 'A check that was passed is made again; this only takes longer.',
  },
  {
    file: 'shared/chunking-stream/chunker.ts',
    line: "if (searched !== 0) requireInteger('searched', searched, 0, end - start)",
    change: 'ConditionalExpression → true',
    why: 'Zero is always within 0 and end - start, which was found to be a range.',
  },
  {
    file: 'shared/chunking-stream/cuts.ts',
    line: 'while (candidate - start > max) cuts.push((start += max))',
    change: 'EqualityOperator → candidate - start >= max',
    why: 'At exactly max the cut is the candidate itself, whichever of the two lines makes it: min is never zero.',
  },
  {
    file: 'shared/chunking-stream/cuts.ts',
    line: 'while (length - start > max) cuts.push((start += max))',
    change: 'EqualityOperator → length - start >= max',
    why: 'At exactly max the cut is the end itself, whichever of the two lines makes it.',
  },
  {
    file: 'shared/chunking-stream/streams.ts',
    line: 'if (end === buffer.length) {',
    change: 'ConditionalExpression → true',
    why: 'What is not cut stands at the front sooner than it has to; this only takes longer.',
  },
  {
    file: 'shared/chunking-stream/table.ts',
    line: 'for (let attempt = 0; attempt < ATTEMPTS; attempt++) {',
    change: 'EqualityOperator → attempt <= ATTEMPTS',
    why: 'One attempt more where a thousand failed, which happens to one key in 2^660 or, for a threshold that nothing fits, with every attempt.',
  },
]

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
]

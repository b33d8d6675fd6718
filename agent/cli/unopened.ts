// Collection lists, forget records and snapshots that do not open: what to do about one, where it is not to be had back.
import type { RefusedObject } from '../repository/collection-state.ts'
import type { Context } from './context.ts'

/** How to go on without it, for the end of a message about it. */
export function howToGoOn(id: string): string {
  return `Where it is not to be had back, 'holdfast forget --unreadable ${id.slice(0, 12)}' (with the root) lets the repository go on without it`
}

/** Names lists and records that do not open as problems. */
export function sayUnopened({ report }: Context, refused: readonly RefusedObject[]): void {
  for (const { kind, ref, name, error, isForeign } of refused)
    report.say({
      event: 'problem',
      path: name,
      code: error.code,
      message: isForeign
        ? `${error.message}. ${howToGoOn(ref.random)}`
        : `${error.message}. It counts for nothing meanwhile${kind === 'forget' ? ', and no forgotten snapshot goes: it may have taken one back' : ', and nothing that it alone condemned goes'}. ${howToGoOn(ref.random)}`,
    })
}

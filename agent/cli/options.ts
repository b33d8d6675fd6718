// What several commands' options have in common.

/** Gathers the values of an option that may be given again. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value]
}

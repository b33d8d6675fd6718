// How often each branch of the instrumented modules was taken since the counters were last read: one byte each, which instrumented code adds to.

const BRANCHES_MAX = 1 << 16

export const counters: Uint8Array = new Uint8Array(BRANCHES_MAX)

/** Where the branches of one module stand among the counters. */
export type ModuleBranches = { readonly path: string; readonly from: number; readonly to: number; readonly words: readonly string[] }

/** Every module that was instrumented in this thread, by its path from the root of the project. */
export const modules = new Map<string, ModuleBranches>()

/** The first counters belong to no branch: a target marks there what branches cannot tell, such as which rule of a schema refused. */
const MARKS = 4096
let used = MARKS
let ended = MARKS

/** Counts a thing that is known by its name. Two names may share a counter; then one of them is not told apart. */
export function mark(name: string): void {
  let hash = 0x811c9dc5
  for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193)
  counters[(hash >>> 0) % MARKS]!++
}

/** How many counters are in use. */
export function branchCount(): number {
  return used
}

/** The counter of one more branch. */
export function nextBranch(): number {
  if (used === BRANCHES_MAX) throw new RangeError(`more than ${BRANCHES_MAX} branches; raise the limit`)
  return used++
}

/** What was counted since the module before belongs to `path`; `words` are the literals in it, which mutators try in inputs. */
export function endModule(path: string, words: readonly string[]): void {
  modules.set(path, { path, from: ended, to: used, words })
  ended = used
}

// The failures that a simulated file system can show, and plans that choose when. A plan is a function of the call alone.
import type { FileSystem } from '../../agent/file-system/file-system.ts'

export type FileOperation = Exclude<keyof FileSystem, 'lock' | 'forget'>
/** One call, as a plan sees it. `index` counts all calls from 1. */
export type FileCall = { readonly index: number; readonly operation: FileOperation; readonly path: string; readonly changes: boolean }
/** An errno that the call fails with, `crash` where the process ends before the call has an effect, or undefined. */
export type FileFaultPlan = (call: FileCall) => string | undefined

export const noFileFaults: FileFaultPlan = () => undefined
/** The fault at call `index` alone. */
export const atFileCall =
  (index: number, fault: string): FileFaultPlan =>
  (call) =>
    call.index === index ? fault : undefined
/** The fault at call `index` and every later one that changes something, as a full disk. */
export const fromFileCall =
  (index: number, fault: string): FileFaultPlan =>
  (call) =>
    call.index >= index && call.changes ? fault : undefined
/** The fault at every call of `operation` on a path that starts with `prefix`. */
export const onPath =
  (operation: FileOperation, prefix: string, fault: string): FileFaultPlan =>
  (call) =>
    call.operation === operation && call.path.startsWith(prefix) ? fault : undefined

/** Operations that change something; an open that creates does too. */
export const CHANGING: ReadonlySet<string> = new Set(
  'write truncate sync syncFileSystem makeDirectory makeSymlink makeHardLink makeNode rename remove setOwner setMode setTimes setAttribute removeAttribute'.split(
    ' ',
  ),
)

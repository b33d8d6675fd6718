// What has to be given back at the end of a run, whatever happened: descriptors, temporary files, threads, uploads under way.
import { printable } from '@holdfast/shared/errors.ts'
import { FileError } from '../file-system/file-system.ts'

export type AtEnd = {
  /** Adds a step; the last one added is done first. */
  readonly add: (step: () => void | Promise<void>) => void
  /** Does something whose failure on the local disk must not hide the run's own outcome: it is told as a notice. */
  readonly attempt: (step: () => void) => void
  /** Does all steps, each once. */
  readonly run: () => Promise<void>
}

export function createAtEnd(onNotice: (text: string) => void): AtEnd {
  const steps: (() => void | Promise<void>)[] = []
  const tell = (error: unknown): void => {
    if (!(error instanceof FileError)) throw error
    onNotice(printable(`could not clean up in the state directory (${error.message}); the next run does it`))
  }
  return {
    add: (step) => steps.push(step),
    attempt: (step) => {
      try {
        step()
      } catch (error) {
        tell(error)
      }
    },
    run: async () => {
      for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
        try {
          await step()
        } catch (error) {
          tell(error)
        }
      }
    },
  }
}

// Runs the fuzzing thread and watches it: a run that does not come back, and a thread that dies of its memory, are failures with their input too.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Job, Told, ToldFailure } from './job.ts'
import { watched, WATCHED_BYTES } from './watch.ts'

/** Far beyond what counts as slow: on a busy machine a thread may stand still for a while. */
export const HANG_MS = 20_000
const HEAP_MIB = 1024

export type Finding = ToldFailure & {
  /** Where the input was written. */
  readonly file: string
  readonly replay: string
}

type WithoutShared<T> = T extends unknown ? Omit<T, 'shared'> : never
export type Asked = WithoutShared<Job>

/** Does a job; `tell` hears what happens on the way. Resolves with the failures that were found. */
export async function supervise(asked: Asked, tell: (told: Told) => void, hangMs: number = HANG_MS): Promise<readonly Finding[]> {
  const shared = new SharedArrayBuffer(WATCHED_BYTES)
  const { runs, input } = watched(shared)
  const job = { ...asked, shared } as Job
  const worker = new Worker(new URL('worker.ts', import.meta.url), {
    workerData: job,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
  })
  const findings: Finding[] = []
  let target = ''
  return new Promise((resolve, reject) => {
    let before = -1
    const timer = setInterval(() => {
      const now = runs()
      if (target !== '' && now === before) fail(`does not come back within ${hangMs / 1000} seconds`, '')
      before = now
    }, hangMs)
    const end = (): void => {
      clearInterval(timer)
      void worker.terminate()
      resolve(findings)
    }
    const fail = (why: string, stack: string): void => {
      findings.push(written({ target, why, stack, input: input() }))
      end()
    }
    worker.on('message', (told: Told) => {
      if (told.kind === 'target') target = told.name
      if (told.kind === 'report') for (const failure of told.report.failures) findings.push(written(failure))
      if (told.kind === 'end') return end()
      tell(told)
    })
    // What the thread said before it ended may still be on its way.
    worker.on('error', (error: Error) =>
      setImmediate(() => {
        if (target === '') {
          clearInterval(timer)
          reject(error)
        } else fail(`ends the thread: ${error.message}`, error.stack ?? '')
      }),
    )
  })
}

function written(failure: ToldFailure): Finding {
  const folder = join(tmpdir(), 'holdfast-fuzz')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `${failure.target}-${nameOf(failure.input)}`)
  writeFileSync(file, failure.input)
  return { ...failure, file, replay: `sh bin/node-run test/fuzz/run.ts --target ${failure.target} --replay ${file}` }
}

/** Puts these inputs in the place of those that are kept of a target; inputs of bugs stay. */
export function keepCorpus(folder: string, inputs: readonly Uint8Array[]): void {
  mkdirSync(folder, { recursive: true })
  if (existsSync(folder)) for (const name of readdirSync(folder)) if (!name.startsWith('bug-')) rmSync(join(folder, name))
  for (const input of inputs) writeFileSync(join(folder, nameOf(input)), input)
}

function nameOf(input: Uint8Array): string {
  return createHash('sha256').update(input).digest('hex').slice(0, 12)
}

// The thread that fuzzes: loads the product with counters in it, runs one target after the other, and tells the thread that watches it about each.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { parentPort, workerData } from 'node:worker_threads'
import { countAllocations } from './allocation.ts'
import { distilled, execute, fuzz, type TargetReport } from './fuzzer.ts'
import { countBranches } from './instrument.ts'
import type { Job } from './job.ts'
import { beginning } from './watch.ts'

const corpusFolder = join(import.meta.dirname, '..', 'corpus')

const job = workerData as Job
const port = parentPort!
// Before anything of the product is loaded.
countBranches()
const { targets } = await import('../targets/all-targets.ts')
const { planted } = await import('../targets/planted.ts')
countAllocations()
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const chosen = job.targets.length === 0 ? targets : [...targets, planted].filter(({ name }) => job.targets.includes(name))
if (chosen.length < new Set(job.targets).size) throw new Error('there is no such target; --list names them')
if (job.act === 'list') {
  port.postMessage({ kind: 'list', targets: targets.map(({ name, about }) => ({ name, about })) })
} else {
  const weights = chosen.reduce((sum, { weight }) => sum + weight, 0)
  for (const target of chosen) {
    const begin = beginning(job.shared, target.name, (name) => port.postMessage({ kind: 'target', name }))
    if (job.act === 'replay') {
      const result = await execute({ target, begin, collect }, readFileSync(job.file))
      // What fails behind the call's back fails in the turns that follow.
      await new Promise((resolve) => setTimeout(resolve, 20))
      port.postMessage({ kind: 'replayed', target: target.name, result })
      continue
    }
    const executions = Math.max(1, Math.ceil((job.executions * target.weight) / weights))
    const kept = keptInputs(target.name)
    const { found, ...report } = await fuzz({ target, seed: job.seed, executions, kept, begin, collect })
    port.postMessage({ kind: 'report', report: report satisfies TargetReport })
    if (job.act !== 'keep') continue
    const all = [...(await target.seeds()), ...kept, ...found]
    port.postMessage({ kind: 'corpus', target: target.name, inputs: await distilled({ target, begin }, all) })
  }
}
port.postMessage({ kind: 'end' })

/** Inputs that earlier runs kept, in the order of their names. */
function keptInputs(name: string): Buffer[] {
  const folder = join(corpusFolder, name)
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .toSorted()
    .map((file) => readFileSync(join(folder, file)))
}

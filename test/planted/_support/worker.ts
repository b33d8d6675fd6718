// The thread of one scenario: plants what is asked for before anything of the product is loaded, then runs the scenario and tells what it came to.
import { parentPort, workerData } from 'node:worker_threads'
import { bugs } from '../register.ts'
import type { Job, Outcome } from './outcome.ts'
import { plant } from './plant.ts'

const { bug: id, planted } = workerData as Job
const bug = bugs.find((one) => one.id === id)
if (bug === undefined) throw new Error(`there is no bug ${id}`)
const requireLoaded = plant([...(bug.given ?? []), ...(planted ? bug.plants : [])])
const [file, name = ''] = bug.caughtBy.split('/')
// Its file alone: what else there is need not be loaded.
const scenario = ((await import(`../scenarios/${file}.ts`)) as Record<string, (() => Promise<void>) | undefined>)[name]
if (scenario === undefined) throw new Error(`there is no scenario '${bug.caughtBy}'`)

async function run(act: () => Promise<void>): Promise<Outcome> {
  try {
    await act()
    return { kind: 'holds' }
  } catch (error) {
    // Demands are plain errors; those of the product, of a crash and of the language are others.
    if (error instanceof Error && Object.getPrototypeOf(error) === Error.prototype && !('code' in error))
      return { kind: 'violated', message: error.message }
    return { kind: 'broke', message: error instanceof Error ? (error.stack ?? error.message) : String(error) }
  }
}

const outcome = await run(scenario)
requireLoaded()
parentPort!.postMessage(outcome)

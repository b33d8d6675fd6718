// Sources that scenarios back up, and what holds after every run of a backup.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { change, type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import { restoresTo } from '../../sim/invariants.ts'

export const SMALL_PACKS = { packBytes: 6000, uploadsAtOnce: 2 }

/** A source of several packs, backed up once where asked for. */
export async function severalFiles(options: { backedUp?: boolean; limits?: typeof SMALL_PACKS } = {}): Promise<Engine> {
  const engine = await makeEngine({ seed: 'planted', limits: options.limits ?? SMALL_PACKS })
  for (let i = 0; i < 8; i++) {
    writeFile(engine, `/src/file-${i}`, fixtureRandom(`planted ${i}`).bytes(3000 + 500 * i))
    change(engine, (fs) => fs.setOwner(CWD, Buffer.from(`/src/file-${i}`), i, i))
  }
  writeFile(engine, '/src/small', 'small')
  engine.pass()
  if (options.backedUp === true) {
    await engine.backup()
    engine.pass()
  }
  return engine
}

/** A run that is reported good restores, and so does a snapshot of one that failed when it stood already. Gives whether it was reported good. */
export async function goodRunRestores(engine: Engine, run: Promise<unknown>, what: string): Promise<boolean> {
  const before = engine.bucket.names('snapshots/').length
  let isGood = true
  try {
    await run
  } catch (error) {
    if (!isHoldfastError(error)) throw error
    isGood = false
  }
  if (isGood) await restoresTo(engine, engine.source(), `a run that was reported good ${what}`)
  else if (engine.bucket.names('snapshots/').length > before)
    await restoresTo(engine, engine.source(), `the snapshot that a run left which failed ${what}`)
  return isGood
}

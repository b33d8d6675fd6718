// What must hold whatever happened to the objects of a small repository: a restore gives the right tree or says what it lacks, a check notices,
// and the next backup is right or refuses. Each look gives what is wrong as sentences; none is good.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { parseObjectName } from '@holdfast/shared/format/layout.ts'
import { checkRepository } from '../../../agent/check/check.ts'
import { readPack } from '../../../agent/check/read-pack.ts'
import { unwrapRoot } from '../../../agent/keys/key-object.ts'
import { openRepository, type Repository } from '../../../agent/repository/repository.ts'
import type { OpenedSnapshot } from '../../../agent/repository/snapshot.ts'
import { loadWholeView } from '../../../agent/repository/whole-view.ts'
import { restoreSnapshot } from '../../../agent/restore/restore.ts'
import { treeOf } from '../../_support/engine-fixture.ts'
import type { Tree } from '../../_support/plain-reader.ts'
import { simulatedFileSystem } from '../../_support/simulated-file-system.ts'
import type { SimulatedBucket } from '../../_support/simulated-store.ts'
import type { SmallRepository } from './small-repository.ts'

const TARGET = '/target'

/** What went wrong in the family's words; anything else is a violation of its own and is thrown on. */
async function attempt<T>(work: () => Promise<T>): Promise<{ value: T } | { refused: string }> {
  try {
    return { value: await work() }
  } catch (error) {
    if (isHoldfastError(error)) return { refused: `${error.code}: ${error.message}` }
    throw error
  }
}

const openOn = (small: SmallRepository, bucket: SimulatedBucket): Promise<Repository> =>
  openRepository({ store: bucket.store('looker'), keys: small.engine.keys.write.structure })

/** Differences of a restored tree that the report of the restore does not name, and any content that is not the right one. */
async function restored(small: SmallRepository, repository: Repository, snapshot: OpenedSnapshot, expected: Tree) {
  const fs = simulatedFileSystem({ clock: small.engine.clock })
  const { view, refused } = await loadWholeView(repository)
  const report = await restoreSnapshot({
    ...{ repository, view, snapshot, fs, keys: small.engine.keys.read, target: Buffer.from(TARGET), workers: 0, durable: false },
  })
  const found: Tree = new Map(
    [...fs.quietly(() => treeOf(fs, [TARGET]))]
      .filter(([path]) => path !== TARGET)
      .map(([path, text]) => [path.slice(TARGET.length), text.replaceAll(`linked to ${TARGET}`, 'linked to ')]),
  )
  const named = report.problems.map(({ path }) => path.toString('latin1'))
  const isNamed = (path: string): boolean => named.some((one) => one === '/' || path === one || path.startsWith(`${one}/`))
  const wrong: string[] = []
  let differences = 0
  const linkOf = (text: string): string | undefined => / \| linked to [^|]*/.exec(text)?.[0]
  const lost = new Set([...expected].filter(([path]) => isNamed(path)).map(([, text]) => linkOf(text)))
  for (const [path, text] of expected) {
    const there = found.get(path)
    if (there === text) continue
    // Of several names of one file some may be lost: the others are then names of a file of their own.
    const link = linkOf(text)
    if (link !== undefined && lost.has(link) && there?.replace(linkOf(there) ?? '', '') === text.replace(link, '')) continue
    differences += 1
    // A directory of which a part is missing is there all the same; a file that is not whole may not stand under its name.
    const damagedDirectory = there === undefined || text.startsWith('directory')
    if (!isNamed(path)) wrong.push(`${path} is ${there ?? 'missing'} instead of ${text}, and nothing says so`)
    else if (!damagedDirectory) wrong.push(`${path} is ${there} instead of ${text}, although it is known to be damaged`)
  }
  for (const [path, text] of found) if (!expected.has(path)) wrong.push(`${path} was never backed up: ${text}`)
  const counted = report.files + report.directories + report.kept
  return { wrong, differences, reported: report.problemCount > 0 || refused.length > 0, counted }
}

/** Restores every snapshot that was ever reported good. Wrong: what came back otherwise without a word. */
export async function lookByRestore(small: SmallRepository, bucket: SimulatedBucket): Promise<string[]> {
  const opened = await attempt(() => openOn(small, bucket))
  if ('refused' in opened) return []
  const repository = opened.value
  const { snapshots } = await repository.listSnapshots()
  const wrong: string[] = []
  const seen = new Set<string>()
  for (const snapshot of snapshots) {
    const id = snapshot.structure.ref.random
    const expected = small.trees.get(id)
    if (expected === undefined) {
      wrong.push(`snapshot ${id} opens and nobody ever made it`)
      continue
    }
    if (seen.has(id)) wrong.push(`snapshot ${id} is listed twice`)
    seen.add(id)
    const result = await attempt(() => restored(small, repository, snapshot, expected))
    if ('value' in result) wrong.push(...result.value.wrong.map((what) => `snapshot ${id}: ${what}`))
  }
  // One that is not listed cannot be restored by mistake: whoever names it is told that it is damaged or not there.
  return wrong
}

/** What a check says of the whole repository; undefined where it says that all is well. */
export async function lookByCheck(small: SmallRepository, bucket: SimulatedBucket): Promise<string | undefined> {
  const opened = await attempt(() => openOn(small, bucket))
  if ('refused' in opened) return opened.refused
  const report = await checkRepository({ repository: opened.value, readData: 'all' })
  const [finding] = report.findings
  if (finding !== undefined) return `${finding.verdict}: ${finding.message}`
  if (report.writtenOff > 0) return `${report.writtenOff} objects are damaged on which nothing rests`
  return report.damaged + report.unknown === 0 ? undefined : `${report.lostBlobs} blobs of snapshots are lost`
}

/** The part of `lookByCheck` that reads one pack, for changes of that pack alone. */
export async function lookByPackCheck(repository: Repository, name: string, bytes: number): Promise<string | undefined> {
  const result = await attempt(() => readPack(repository, parseObjectName(name)!, bytes, {}))
  return 'refused' in result ? result.refused : result.value.damage?.message
}

/** Whether a key object still opens the root with its secret; wrong where it opens another. */
export async function lookByUnlock(
  small: SmallRepository,
  bucket: SimulatedBucket,
  name: string,
): Promise<{ opens: boolean; wrong: boolean }> {
  const object = bucket.content(name)
  if (object === undefined) return { opens: false, wrong: false }
  const result = await attempt(() => unwrapRoot(object, small.secrets.get(name)!, name))
  const root = 'value' in result ? result.value : undefined
  if (root === undefined) return { opens: false, wrong: false }
  return { opens: true, wrong: !root.root.equals(small.root.root) || !root.domainId.equals(small.root.domainId) || root.label !== 'office' }
}

/**
 * One more backup on the changed store. Wrong: a failure that is none of the family's, a snapshot of a run that failed, a snapshot that does not hold
 * the source. `hidden`: the change left every size as it was, so that a writer, which opens nothing, cannot see it; then what the snapshot rests on
 * may be damaged, and a restore says so.
 */
export async function lookByBackup(small: SmallRepository, changed: SimulatedBucket, hidden: boolean, seed: string): Promise<string[]> {
  const bucket = changed.clone()
  const before = bucket.names('snapshots/').length
  const run = await attempt(() => small.backUpAgain(bucket, seed))
  if ('refused' in run) return bucket.names('snapshots/').length > before ? [`a run failed (${run.refused}) and left a snapshot`] : []
  const repository = await openOn(small, bucket)
  const { snapshots } = await repository.listSnapshots()
  const made = snapshots.find(({ structure }) => structure.ref.random === run.value.snapshot?.ref.random)
  if (made === undefined) return ['a run reported a snapshot that is not there']
  const result = await restored(small, repository, made, small.engine.source())
  if (result.wrong.length > 0) return result.wrong.map((what) => `the next snapshot: ${what}`)
  if (result.differences > 0 && !hidden) return [`the next snapshot lacks ${result.differences} entries that the source still has`]
  return []
}

/** True where every pack has the size that it had. */
export function sizesKept(original: SimulatedBucket, changed: SimulatedBucket): boolean {
  return original.names('packs/').every((name) => changed.content(name)?.length === original.content(name)?.length)
}

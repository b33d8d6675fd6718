// What this machine keeps of its drills of one domain, below the user's state: where the next samples begin, the evidence, and the scratch place.
import { isoTime } from '@holdfast/shared/clock.ts'
import { lockState, openStateDirectory } from '../backup/state-lock.ts'
import type { DrillPlan } from '../drill/drill.ts'
import { appendEvidence, type Began, type Ended, type EvidenceLine, readEvidence } from '../drill/evidence.ts'
import { keepPlace, placeOfSeries } from '../drill/rotation.ts'
import { CWD, type Descriptor, FileError } from '../file-system/file-system.ts'
import { posixFileSystem as fs } from '../file-system/posix-file-system.ts'
import type { Repository } from '../repository/repository.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import type { Context, Outcome } from './context.ts'
import type { Said } from './events.ts'
import { hashOfLocation } from './paths.ts'
import { VERSION } from './version.ts'

type DrillEnd = Omit<Ended, 'at' | 'drill' | 'snapshotId' | 'series' | 'ofFiles' | 'ofBytes'>

export type DrillState = {
  /** Where drills restore to if nothing else is named. */
  readonly scratch: Buffer
  /** Undefined where nothing is known of the series. */
  readonly placeOf: (series: string) => number | undefined
  readonly keepPlace: (series: string, next: number) => void
  /** Puts down that a drill begins; what it answers puts down how it ended. Both are durable when they return; they throw `local-disk`. */
  readonly began: (
    repository: Repository,
    snapshot: OpenedSnapshot,
    plan: DrillPlan,
    asked?: { readonly restoreId: string; readonly agentId: string },
  ) => { readonly ended: (end: DrillEnd) => void }
  /** Throws `conflict` where another drill of this domain is under way here. */
  readonly alone: <T>(work: () => Promise<T>) => Promise<T>
}

/** Opens the state of the repository's domain, gives it to `work`, and closes it. On a dry run nothing is made. */
export async function withDrillState<T>(context: Context, repository: Repository, work: (state: DrillState) => Promise<T>): Promise<T> {
  const path = Buffer.from(`${drillsPath(context)}/${repository.description.domainId.toString('hex')}`)
  const directory = context.dryRun ? openIfThere(path) : openDurably(context, path)
  const { clock, random, hostName } = context
  const there = (): Descriptor => directory ?? openDurably(context, path)
  // A copy of a repository has the same series in other storage: what one was drilled for says nothing of the other.
  const ringOf = (series: string): string => hashOfLocation(`${series} ${repository.store.location}`)
  try {
    return await work({
      scratch: Buffer.concat([path, Buffer.from('/scratch')]),
      placeOf: (series) => (directory === undefined ? undefined : placeOfSeries(fs, directory, ringOf(series))),
      keepPlace: (series, next) => keepPlace(fs, there(), ringOf(series), next),
      began: (repository, snapshot, { sample, selection, sampleHash }, asked) => {
        const common = {
          drill: random.bytes(16).toString('hex'),
          snapshotId: snapshot.structure.ref.random,
          series: snapshot.structure.series.toString('hex'),
        }
        const line: Began = {
          ...{ at: isoTime(clock.now()), ...common },
          ...{ repository: repository.store.location, host: hostName, program: `holdfast ${VERSION}` },
          ...{ sampleHash, whole: selection.kind === 'whole', from: sample.from, next: sample.next },
          ...asked,
        }
        appendEvidence(fs, there(), { kind: 'began', line })
        return {
          ended: (end) =>
            appendEvidence(fs, there(), {
              kind: 'ended',
              line: { at: isoTime(clock.now()), ...common, ofFiles: sample.ofFiles, ofBytes: sample.ofBytes, ...end },
            }),
        }
      },
      alone: async (one) => {
        if (context.dryRun) return one()
        const lock = lockState(fs, there(), 'another drill of this domain is under way on this machine: wait for it')
        try {
          return await one()
        } finally {
          lock.release()
        }
      },
    })
  } finally {
    if (directory !== undefined) fs.close(directory)
  }
}

/** Evidence in a directory that a power cut takes away would be none. */
function openDurably(context: Context, path: Buffer): Descriptor {
  const directory = openStateDirectory(fs, path)
  for (const above of [drillsPath(context), `${context.settings.stateHome}/holdfast`, context.settings.stateHome]) {
    const fd = fs.open(CWD, Buffer.from(above), 'directory-follow')
    fs.sync(fd)
    fs.close(fd)
  }
  return directory
}

function drillsPath(context: Context): string {
  return `${context.settings.stateHome}/holdfast/drill`
}

function openIfThere(path: Buffer): Descriptor | undefined {
  try {
    return fs.open(CWD, path, 'directory-follow')
  } catch (error) {
    if (error instanceof FileError && error.errno === 'ENOENT') return undefined
    throw error
  }
}

/** Shows all drills that this machine keeps evidence of, oldest first, and says where that is not as it was written. */
export function drillHistory(context: Context): Outcome {
  const { report } = context
  const path = drillsPath(context)
  const counts = { drills: 0, restored: 0, files: 0, bytes: 0, problems: 0 }
  const all = openIfThere(Buffer.from(path))
  const domains = all === undefined ? [] : fs.readDirectory(all)
  if (all !== undefined) fs.close(all)
  for (const domain of domains) {
    const directory = openIfThere(Buffer.concat([Buffer.from(`${path}/`), domain]))
    if (directory === undefined) continue
    const { lines, broken, torn } = readEvidence(fs, directory)
    fs.close(directory)
    const file = `${path}/${domain.toString('latin1')}/evidence.jsonl`
    for (const number of broken) {
      counts.problems += 1
      const message = 'does not follow from the line before it: something before it was changed, or taken out'
      report.say({ event: 'problem', path: `${file}, line ${number}`, code: 'damaged', message })
    }
    if (torn > 0)
      report.say({
        event: 'notice',
        level: 'warning',
        message: `${file} has ${torn} lines that are no evidence: a crash cut them off, or they were changed`,
      })
    for (const event of drillsOf(lines)) {
      counts.drills += 1
      counts.files += event.files
      counts.bytes += event.bytes
      if (event.outcome === 'restored') counts.restored += 1
      report.say(event)
    }
  }
  return { result: counts.problems > 0 ? 'damaged' : 'done', counts, details: { history: true } }
}

/** Beginnings with their ends. */
function drillsOf(lines: readonly EvidenceLine[]): Said<'drill'>[] {
  const ends = new Map(lines.flatMap((line) => (line.kind === 'ended' ? [[line.drill, line] as const] : [])))
  return lines.flatMap((line) => {
    if (line.kind !== 'began') return []
    const end = ends.get(line.drill)
    const { at, repository, snapshotId, series, restoreId, agentId, whole, sampleHash } = line
    return [
      {
        event: 'drill' as const,
        ...{ at, repository, snapshotId, series, restoreId, agentId, whole, sampleHash },
        ...(end === undefined
          ? { outcome: 'began' as const, files: 0, bytes: 0, problems: 0 }
          : {
              ...{ outcome: end.outcome, code: end.code, endedAt: end.at, files: end.files, bytes: end.bytes, problems: end.problemCount },
              ...{ ofFiles: end.ofFiles, ofBytes: end.ofBytes, entriesCompared: end.entriesCompared, bytesCompared: end.bytesCompared },
            }),
      },
    ]
  })
}

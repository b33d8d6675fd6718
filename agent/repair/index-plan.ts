// What has to be written so that index files say what is so: which ones are replaced, and which packs the new ones tell of. Pure.
import type { HoldfastError } from '@holdfast/shared/errors.ts'
import { NO_REPAIR_READS } from '../check/check-types.ts'
import type { IndexClaims } from '../check/claims.ts'
import type { IndexFile } from '../repository/index-file.ts'
import { type ObjectRef, objectName, packName } from '@holdfast/shared/format/layout.ts'
import type { PackLook } from './pack-look.ts'

/** An index file that is listed and does not open. */
export type RefusedIndex = { readonly ref: ObjectRef; readonly error: HoldfastError; readonly mayReplace: boolean }

export type RepairNote = {
  readonly object: string
  /** `repaired`: it is put right, or would be in a dry run; `damaged`: told, and nothing can be done about the object itself. */
  readonly verdict: 'repaired' | 'damaged' | 'unknown' | 'left'
  readonly code: string
  /** Printable, one line. */
  readonly message: string
}

export type IndexPlan = {
  /** False where index files say what is so. */
  readonly work: boolean
  readonly replaces: readonly ObjectRef[]
  readonly packs: readonly PackLook[]
  /** Packs of which a segment is damaged that no index file tells of. It is told of once more, in an index file that is replaced from its beginning: a
   * reader's last resort, should the damage have been in the eye that saw it. */
  readonly hints: readonly PackLook[]
  /** Claims of what is replaced: where what is said of a pack that nobody could look at is carried over from. */
  readonly replaced: readonly IndexClaims[]
  readonly segmentsWrittenOff: number
  /** Packs and index files that only another writer or the root can put right. */
  readonly leftToOthers: number
  readonly notes: readonly RepairNote[]
}

export type PlanOptions = {
  readonly looks: readonly PackLook[]
  readonly refused: readonly RefusedIndex[]
  /** Whether this writer may replace the file: an appliance only its own, the root all. */
  readonly mayReplace: (file: IndexFile) => boolean
  /** Whether this writer may sign an index file over a pack of that writer: what it signs it trusts later. */
  readonly mayIndex: (writerId: Buffer) => boolean
  /** False where an index file could not be read: it may say all that seems to be missing. */
  readonly complete: boolean
}

export function planIndex(options: PlanOptions): IndexPlan {
  const notes: RepairNote[] = []
  const { replaced, left } = untrueFiles(options, notes)
  // With what they replaced themselves, so that none of it comes back when they are gone.
  const refs = [...replaced].flatMap(({ file }) => [file.ref, ...file.replaces])
  let leftToOthers = left
  for (const { ref, error, mayReplace } of options.refused) {
    const name = objectName('index', ref)
    if (mayReplace && options.complete) {
      refs.push(ref)
      notes.push({
        object: name,
        verdict: 'repaired',
        code: error.code,
        message: `${error.message}; what it should say is taken from the packs`,
      })
    } else {
      leftToOthers += 1
      notes.push({
        object: name,
        verdict: 'left',
        code: error.code,
        message: `${error.message}; it is left to ${options.complete ? 'its writer or the root of the domain' : 'a repair that can read all index files'}`,
      })
    }
  }
  const packs: PackLook[] = []
  const hints: PackLook[] = []
  let segmentsWrittenOff = 0
  for (const look of options.looks) {
    const kept = look.naming.filter(({ claims }) => !replaced.has(claims))
    const taken = look.naming.filter(({ claims }) => replaced.has(claims))
    if (look.naming.some(({ isTrue }) => !isTrue)) segmentsWrittenOff += writtenOff(look)
    noteDamage(look, notes)
    if (look.state === 'gone') continue
    if (look.state === 'unread') {
      if (taken.length > 0) packs.push(look)
      continue
    }
    if (isCovered(look, kept)) continue
    // Named by what is replaced, it must be named by what replaces it. One without a footer that nothing names stays unnamed: who can read its
    // footer after all shall look for it.
    const may = taken.length > 0 || (look.state === 'sound' && options.complete && options.mayIndex(look.writerId))
    if (may) {
      packs.push(look)
      if (look.state === 'sound' && needsHint(look)) hints.push(look)
    } else if (look.state === 'sound' && options.complete) {
      leftToOthers += 1
      notes.push({
        object: packName(look.ref),
        verdict: 'left',
        code: 'unindexed',
        message: 'is in no index file, and was made by another writer: it is left to that one, or to the root of the domain',
      })
    }
  }
  const unindexed = packs.filter(({ naming, state }) => state !== 'unread' && naming.length === 0).length
  if (unindexed > 0)
    notes.push({
      object: 'index/',
      verdict: 'repaired',
      code: 'unindexed',
      message: `${unindexed === 1 ? '1 pack is' : `${unindexed} packs are`} in no index file`,
    })
  return {
    work: refs.length > 0 || packs.length > 0,
    replaces: refs,
    packs,
    hints,
    replaced: [...replaced],
    segmentsWrittenOff,
    leftToOthers,
    notes,
  }
}

function needsHint(look: Extract<PackLook, { state: 'sound' }>): boolean {
  const told = new Set(
    look.naming.flatMap(({ claims }) => claims.segmentsOf(look.ref.random).map((ordinal) => claims.file.segment(ordinal).offset)),
  )
  return [...look.bad].some((offset) => !told.has(offset))
}

/** Index files that say more than there is. */
function untrueFiles(options: PlanOptions, notes: RepairNote[]): { replaced: Set<IndexClaims>; left: number } {
  const untrue = new Set<IndexClaims>()
  for (const { naming } of options.looks) for (const { claims, isTrue } of naming) if (!isTrue) untrue.add(claims)
  const replaced = new Set<IndexClaims>()
  for (const claims of untrue) {
    const may = options.mayReplace(claims.file)
    if (may) replaced.add(claims)
    notes.push({
      object: objectName('index', claims.file.ref),
      verdict: may ? 'repaired' : 'left',
      code: 'untrue',
      message: may
        ? 'names what is damaged, gone, or never was'
        : 'names what is damaged, gone, or never was; it is left to its writer, or to the root of the domain',
    })
  }
  return { replaced, left: untrue.size - replaced.size }
}

/** Whether the files that stay name everything of the pack that is good, and nothing else. */
function isCovered(look: Extract<PackLook, { state: 'sound' | 'footerless' }>, kept: PackLook['naming']): boolean {
  const honest = kept.filter(({ isTrue }) => isTrue)
  if (honest.length === 0) return false
  const good =
    look.state === 'sound' ? look.offsets.filter((offset) => !look.bad.has(offset)) : look.footer.segments.map(({ offset }) => offset)
  return good.every((offset) => honest.some(({ named }) => named.has(offset)))
}

function writtenOff(look: PackLook): number {
  if (look.state === 'sound') return look.bad.size
  const offsets = new Set(
    look.naming.flatMap(({ claims }) => claims.segmentsOf(look.ref.random).map((ordinal) => claims.file.segment(ordinal).offset)),
  )
  return look.state === 'footerless'
    ? [...offsets].filter((offset) => !look.footer.segments.some((segment) => segment.offset === offset)).length
    : offsets.size
}

function noteDamage(look: PackLook, notes: RepairNote[]): void {
  const object = packName(look.ref)
  const say = (verdict: RepairNote['verdict'], code: string, message: string): void => void notes.push({ object, verdict, code, message })
  if (look.state === 'unread') return say('unknown', look.error.code, `${look.error.message}; what index files say of it stays`)
  if (look.state === 'gone')
    return look.onRecord ? undefined : say('damaged', 'not-found', 'is named by an index file and is not in the store')
  if (look.state === 'footerless') {
    if (look.naming.length === 0) return say('damaged', look.damage.code, `${look.damage.message}. ${NO_REPAIR_READS}`)
    const kept = look.opened
      ? `${look.footer.segments.length} of its segments open and stay in use`
      : 'without the root of the domain nobody can tell what in it is sound'
    return say('damaged', look.damage.code, `${look.damage.message}; ${kept}`)
  }
  if (look.bad.size > 0)
    say('damaged', 'damaged', `${look.bad.size} of its ${look.offsets.length} segments are damaged; the others stay in use`)
  else if (look.damage !== undefined) say('damaged', look.damage.code, look.damage.message)
}

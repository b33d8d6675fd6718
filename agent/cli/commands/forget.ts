// `holdfast forget`: which snapshots no longer count, by rules or by name. Nothing is deleted by it; `holdfast prune` does that, later.
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { objectName, parseObjectName, parseSessionName } from '@holdfast/shared/format/layout.ts'
import { keepsSomething, RETENTION_UNITS, type RetentionRules } from '@holdfast/shared/retention.ts'
import type { Command } from 'commander'
import {
  chooseByRules,
  type ForgetOptions,
  forgetMissing,
  forgetSnapshots,
  forgetUnreadable,
  listSeries,
  requireSomethingLeft,
  type SeriesSnapshots,
  type UnopenedObject,
  writeOff,
} from '../../collection/forget.ts'
import { ROOT_WRITER_ID } from '../../keys/domain.ts'
import { storeTime } from '../../collection/survey.ts'
import { listSessions, openSession } from '../../check/small-objects.ts'
import { listRefs, type Repository } from '../../repository/repository.ts'
import { createTokens, type OpenedSnapshot } from '../../repository/snapshot.ts'
import { shownText } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { parseWhole } from '../format.ts'
import { type Holder, withRepository } from '../open.ts'
import { collect } from '../options.ts'
import { chooseSnapshot, sayRefused } from '../snapshot-choice.ts'

type ForgetFlags = {
  readonly keepLast?: string
  readonly keepHourly?: string
  readonly keepDaily?: string
  readonly keepWeekly?: string
  readonly keepMonthly?: string
  readonly keepYearly?: string
  readonly keepWithin?: string
  readonly keepTag?: readonly string[]
  readonly tag?: readonly string[]
  readonly series?: string
  readonly allowEmptySeries?: boolean
  readonly unreadable?: string
  readonly missing?: boolean
}
const KEEP_MAX = 100_000

export function define(command: Command, start: Start): void {
  command
    .description(
      'Puts it on record that snapshots no longer count: those that rules do not keep, or those named. They can be taken back with `holdfast undelete` until `holdfast prune` has deleted them, two weeks later at the earliest.',
    )
    .argument('[snapshots...]', 'ids of snapshots to forget; without rules')
    .option('--keep-last <n>', 'keep the last n of each series')
  for (const unit of RETENTION_UNITS)
    command.option(`--keep-${unit} <n>`, `keep the newest of each of the last n ${UNIT_WORDS[unit]} that have one`)
  command
    .option('--keep-within <time>', 'keep all of this time: 14d, 8w, 2y')
    .option('--keep-tag <tag>', 'besides what a rule keeps, keep all with this tag (again: or that one)', collect)
    .option('--tag <tag>', 'only snapshots with this tag are looked at (again: with all of them)', collect)
    .option('--series <id>', 'only this series (as `snapshots --json` shows it, or its beginning)')
    .option('--allow-empty-series', 'also forget every snapshot of a series, where they are named')
    .option('--unreadable <id>', 'give up a snapshot, list, record, session or roster that does not open, so that check and prune go on')
    .option('--missing', 'put it on record that snapshots are gone from the store, so that collections go on')
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast forget --keep-daily 7 --keep-weekly 4 --keep-monthly 12 -n    what would stay, and why
  $ holdfast forget --keep-daily 7 --keep-weekly 4 --keep-monthly 12
  $ holdfast forget 1f6c0a2b 9e01d4aa
  $ holdfast prune

Rules work on each series by itself, in UTC, by the time at which the store received a snapshot. They never forget the newest of a series, and
none whose own time is two days off the store's, or that a collection may have overtaken before it was reported good
(doubtful: it stands for no other). An enrolled agent forgets its own snapshots only. A dry run writes nothing: in a directory it goes
by the clock of this machine, as that of the file system can only be learnt by writing.
--unreadable takes the id that 'holdfast check' names. Of a forget record that is written off, what it forgot counts again, and what it took back does
not: look at 'holdfast undelete' before the next prune.`,
    )
    .action((ids: readonly string[], flags: ForgetFlags) => start('forget', (context) => forget(context, ids, flags)))
}

const NO_RANDOM = '0'.repeat(32)
const UNIT_WORDS = { hourly: 'hours', daily: 'days', weekly: 'weeks (from Monday)', monthly: 'months', yearly: 'years' } as const

async function forget(context: Context, ids: readonly string[], flags: ForgetFlags): Promise<Outcome> {
  const rules = parseRules(flags)
  const ways = [keepsSomething(rules), ids.length > 0, flags.unreadable !== undefined, flags.missing === true].filter(Boolean).length
  const narrows = (flags.keepTag ?? flags.tag ?? flags.series) !== undefined
  if (ways > 1) throw new HoldfastError('usage', 'rules, ids, --unreadable and --missing go one at a time; nothing was changed')
  if (ways === 1 && !keepsSomething(rules) && narrows)
    throw new HoldfastError('usage', '--keep-tag, --tag and --series go with rules such as --keep-daily 7; nothing was changed')
  if (ways === 0 && !narrows)
    throw new HoldfastError('usage', 'say what to forget: rules such as --keep-daily 7, or ids of snapshots; nothing was changed')
  return withRepository(context, 'write', async ({ repository, holder }) => {
    const { clock, random, signal, dryRun } = context
    const options = { repository, keys: holder.write, clock, random, signal }
    const outcome = (counts: Record<string, number>): Outcome => ({
      result: 'done',
      repository: repository.store.location,
      domainId: repository.description.domainId.toString('hex'),
      counts,
    })
    if (flags.missing === true) return outcome({ missing: await forgetMissing(options, dryRun) })
    if (flags.unreadable !== undefined) return outcome(await giveUp(context, options, flags.unreadable))
    const all = await listSeries(repository, signal)
    if (ways === 0) return refuseNoRule(holder, all, flags)
    const chosen =
      ids.length > 0 ? await named(context, options, all, ids, flags) : await ruled(context, options, holder, all, rules, flags)
    if (!dryRun) await forgetSnapshots(options, chosen.forgotten, ids.length > 0 ? 'asked' : 'retention')
    // What was not put on record was not forgotten, and must not be told so.
    chosen.say()
    return outcome({ forgotten: chosen.forgotten.length, kept: chosen.kept })
  })
}

/** What narrows a rule or adds to it is no rule: but a tag that is misspelt is said first. */
function refuseNoRule({ structure }: Holder, all: readonly SeriesSnapshots[], flags: ForgetFlags): never {
  const tokens = createTokens(structure.recordKey)
  for (const tag of flags.keepTag ?? []) knownTag(all, tokens.tag(tag), tag, '--keep-tag')
  for (const tag of flags.tag ?? []) knownTag(all, tokens.tag(tag), tag, '--tag')
  chooseSeries(all, flags.series)
  throw new HoldfastError(
    'usage',
    '--keep-tag only adds to what a rule keeps, --tag and --series only narrow it: give a rule such as --keep-daily 7 too; nothing was changed',
  )
}

/** `say` tells of each snapshot what becomes of it. */
type Chosen = { readonly forgotten: readonly OpenedSnapshot[]; readonly kept: number; readonly say: () => void }

async function named(
  context: Context,
  { repository }: ForgetOptions,
  all: readonly SeriesSnapshots[],
  ids: readonly string[],
  flags: ForgetFlags,
): Promise<Chosen> {
  const chosen = new Map<string, OpenedSnapshot>()
  for (const id of ids) {
    const snapshot = await chooseSnapshot(context, repository, id)
    chosen.set(snapshot.structure.ref.random, snapshot)
  }
  requireSomethingLeft(all, [...chosen.values()], flags.allowEmptySeries === true)
  const say = (): void => {
    for (const series of all)
      for (const { structure, at } of series.snapshots)
        if (chosen.has(structure.ref.random)) sayRetention(context, series, structure.ref.random, at, false, ['asked'])
  }
  return { forgotten: [...chosen.values()], kept: all.reduce((sum, { snapshots }) => sum + snapshots.length, 0) - chosen.size, say }
}

async function ruled(
  context: Context,
  { repository }: ForgetOptions,
  holder: Holder,
  every: readonly SeriesSnapshots[],
  rules: RetentionRules,
  flags: ForgetFlags,
): Promise<Chosen> {
  const tokens = createTokens(holder.structure.recordKey)
  sayRefused(context, await repository.listSnapshots(context.signal))
  const keepTags = (flags.keepTag ?? []).map((tag) => knownTag(every, tokens.tag(tag), tag, '--keep-tag'))
  const wantedTags = (flags.tag ?? []).map((tag) => knownTag(every, tokens.tag(tag), tag, '--tag'))
  const mine = (series: SeriesSnapshots): boolean => holder.kind === 'root' || series.writerId.equals(holder.write.writer.id)
  const all = chooseSeries(every, flags.series)
    .filter(mine)
    .map((series) => ({
      ...series,
      snapshots: series.snapshots.filter(({ structure }) => wantedTags.every((tag) => structure.tags.some((one) => one.equals(tag)))),
    }))
    .filter(({ snapshots }) => snapshots.length > 0)
  const now = await storeTime(repository, () => context.clock.now(), { signal: context.signal, readOnly: context.dryRun })
  const choices = chooseByRules(all, rules, now, keepTags)
  const forgotten = choices.flatMap((choice) => choice.forgotten)
  requireSomethingLeft(every, forgotten, false)
  const say = (): void => {
    for (const { series, kept } of choices)
      for (const { structure, at } of series.snapshots) {
        const why = kept.get(structure.ref.random)
        sayRetention(context, series, structure.ref.random, at, why !== undefined, why ?? ['retention'])
      }
  }
  return { forgotten, kept: choices.reduce((sum, { kept }) => sum + kept.size, 0), say }
}

/** A tag that no snapshot has is a mistake, and a rule with a mistake in it must not decide what is forgotten (reference bug B19). */
function knownTag(all: readonly SeriesSnapshots[], token: Buffer, tag: string, option: string): Buffer {
  const isKnown = all.some(({ snapshots }) => snapshots.some(({ structure }) => structure.tags.some((one) => one.equals(token))))
  if (!isKnown)
    throw new HoldfastError('usage', `no snapshot has the tag '${shownText(tag)}' of ${option}: is it spelt right? Nothing was changed`)
  return token
}

function chooseSeries(all: readonly SeriesSnapshots[], wanted: string | undefined): readonly SeriesSnapshots[] {
  if (wanted === undefined) return all
  const found = /^[0-9a-f]{4,64}$/i.test(wanted) ? all.filter(({ series }) => series.toString('hex').startsWith(wanted.toLowerCase())) : []
  if (found.length === 0)
    throw new HoldfastError(
      'usage',
      `'${shownText(wanted)}' is no series here: 'holdfast snapshots --json' shows them; nothing was changed`,
    )
  return found
}

async function giveUp(context: Context, options: ForgetOptions, id: string): Promise<Record<string, number>> {
  const { repository, signal } = options
  const wanted = id.toLowerCase()
  const state = await repository.loadCollection(signal)
  const { refused, givenUp } = await repository.listSnapshots(signal, state)
  // What its appliance alone has given up stays until the root says so too.
  const isRoot = options.keys.writer.id.equals(ROOT_WRITER_ID)
  const byAgents = givenUp.filter(({ entries }) => isRoot && !entries.some(({ writerId }) => writerId.equals(ROOT_WRITER_ID)))
  const open = new Set([...refused.map(({ name }) => name), ...byAgents.map((one) => objectName('snapshot', one))])
  const refs = (await listRefs(repository.store, 'snapshots/', signal)).filter(({ random }) => random.startsWith(wanted))
  const records = [
    ...state.refused.filter(({ ref }) => ref.random.startsWith(wanted)),
    ...(await unopenedBeside(repository, wanted, signal)),
  ]
  const [ref] = refs
  const [record] = records
  if (record !== undefined && refs.length + records.length === 1) {
    if (!context.dryRun) await writeOff(options, record)
    return { writtenOff: 1, recordsWrittenOff: record.kind === 'forget' ? 1 : 0 }
  }
  if (ref === undefined || refs.length + records.length > 1 || !open.has(ref.info.name))
    throw new HoldfastError(
      'usage',
      `'${shownText(id)}' names no one snapshot, list, record, session or roster that does not open; 'holdfast check' names those. A snapshot that opens is forgotten by its id`,
    )
  if (!context.dryRun) await forgetUnreadable(options, { session: ref.session, random: ref.random })
  return { forgotten: 1 }
}

/** Sessions and rosters that begin so and do not open. */
async function unopenedBeside(repository: Repository, wanted: string, signal: AbortSignal | undefined): Promise<UnopenedObject[]> {
  const found: UnopenedObject[] = repository.refusedRosters.flatMap(({ name }) => {
    const ref = parseObjectName(name)
    return ref?.random.startsWith(wanted) === true ? [{ kind: 'roster', ref, name }] : []
  })
  for (const info of await listSessions(repository, signal)) {
    const session = parseSessionName(info.name)!
    if (!session.startsWith(wanted)) continue
    try {
      await openSession(repository, info, signal)
    } catch (error) {
      if (!isHoldfastError(error, 'damaged', 'wrong-key', 'newer-format')) throw error
      found.push({ kind: 'session', ref: { session, random: NO_RANDOM }, name: info.name })
    }
  }
  return found
}

function sayRetention(context: Context, { series }: SeriesSnapshots, id: string, at: number, kept: boolean, why: readonly string[]): void {
  context.report.say({ event: 'retention', id, series: series.toString('hex'), at: isoTime(at), kept, why: [...why] })
}

function parseRules(flags: ForgetFlags): RetentionRules {
  const whole = (text: string | undefined, option: string): number | undefined =>
    text === undefined ? undefined : parseWhole(text, option, 1, KEEP_MAX)
  return {
    last: whole(flags.keepLast, '--keep-last'),
    hourly: whole(flags.keepHourly, '--keep-hourly'),
    daily: whole(flags.keepDaily, '--keep-daily'),
    weekly: whole(flags.keepWeekly, '--keep-weekly'),
    monthly: whole(flags.keepMonthly, '--keep-monthly'),
    yearly: whole(flags.keepYearly, '--keep-yearly'),
    withinDays: flags.keepWithin === undefined ? undefined : parseDays(flags.keepWithin, '--keep-within'),
  }
}

const DAYS = { d: 1, w: 7, y: 365 } as const

/** Days of `14d`, `8w`, `2y`. Throws `usage`, naming `option`. */
export function parseDays(text: string, option: string): number {
  const match = /^(\d{1,5})([dwy])$/.exec(text)
  const days = match === null ? 0 : Number(match[1]) * DAYS[match[2] as keyof typeof DAYS]
  if (days < 1) throw new HoldfastError('usage', `${option} is a time such as 14d, 8w or 2y, not '${shownText(text)}'`)
  return days
}

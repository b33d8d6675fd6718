// Bugs of collection and retention: what a deletion takes, and whether writers notice.
import type { PlantedBug } from './_support/planted-bug.ts'

const PRUNE_PLAN = 'agent/collection/prune-plan.ts'

export const bugsOfCollection: readonly PlantedBug[] = [
  {
    id: 'B1',
    title: 'an index says "there" of what a collection deleted',
    how: 'known ids are filled from index files whatever became of the packs that they name',
    plants: [
      {
        file: 'agent/backup/view-ids.ts',
        from: "kinds[i] = absent.has(file.packs[segment.pack]?.random ?? '') ? 0 : segment.kind",
        to: 'kinds[i] = segment.kind',
      },
      { file: 'agent/backup/view-ids.ts', from: '.some(({ pack }) => !absent.has(pack.random))', to: '.length > 0' },
    ],
    caughtBy: 'collecting/contentComesBack',
    says: /content that had been deleted and came back/,
  },
  {
    id: 'B14',
    title: 'a listing is cut short and says that it is whole, and a collection believes it',
    how: 'a collection does not ask for snapshots that an earlier one counted, nor for gaps in a series',
    plants: [
      {
        file: 'agent/collection/survey.ts',
        from: '  const gap = gaps[0]\n',
        to: '  const gap = gaps[gaps.length]\n',
      },
    ],
    caughtBy: 'collecting/shortListing',
    says: /that a short listing left out of collections/,
  },
  {
    id: 'B17',
    title: 'a live lock counts as stale, and a collection deletes beside a backup that stood still for two days',
    how: 'a writer does not look at the lists again before it commits; no session ever counts as alive, with the plant and without',
    given: [
      {
        file: 'agent/collection/session-life.ts',
        from: '    return life !== undefined && !life.ended && now - life.lastAt < SILENT_MS\n',
        to: '    return life !== undefined && now < 0\n',
      },
    ],
    plants: [
      {
        file: 'agent/backup/list-watch.ts',
        from: '      if (late) return true\n',
        to: '      if (seen.size >= 0) return late\n',
      },
    ],
    caughtBy: 'collecting/suspendedWriter',
    says: /suspended for two days/,
  },
  {
    id: 'B19',
    title: 'rules with a slip in them forget every snapshot',
    how: 'the newest snapshot of a series is kept only where a rule says so',
    plants: [
      {
        file: 'shared/retention.ts',
        from: "  if (newest !== undefined) keep(newest.id, 'newest')\n",
        to: '',
      },
    ],
    caughtBy: 'collecting/rulesKeepSome',
    says: /select all/,
  },
  {
    id: 'B20',
    title: 'a collection does not see a snapshot that appeared after it had begun',
    how: 'marking goes by the snapshots that the oldest condemned list counted',
    plants: [
      {
        file: 'agent/collection/survey.ts',
        from: '    await mark.add(snapshot, signal)\n    onSnapshot(i + 1,',
        to: '    const [list] = survey.state.condemnedLists.toSorted((a, b) => a.storedAt - b.storedAt)\n    if (list?.list.kept.every(({ random }) => random !== snapshot.structure.ref.random) === true) continue\n    await mark.add(snapshot, signal)\n    onSnapshot(i + 1,',
      },
    ],
    caughtBy: 'collecting/snapshotAppears',
    says: /a snapshot that appeared beside a collection/,
  },
  {
    id: 'B22',
    title: 'a blob is not found after months: something was collected too early',
    how: 'what is condemned or forgotten goes with the next collection, whatever the undelete window',
    plants: [{ file: PRUNE_PLAN, from: '  const hold = Math.max(WAIT_MS, windowMs)\n', to: '  const hold = Math.min(0, windowMs)\n' }],
    caughtBy: 'collecting/withinTheWindow',
    says: /within the undelete window/,
  },
  {
    id: 'B23',
    title: 'a writer that is too slow for its epoch is silently left out',
    how: 'a run does not ask how long it has not looked',
    plants: [
      {
        file: 'agent/backup/list-watch.ts',
        from: '    if (unseen > UNSEEN_MAX_MS) late = true\n',
        to: '    if (unseen > UNSEEN_MAX_MS * 1000) late = true\n',
      },
    ],
    caughtBy: 'collecting/slowWriter',
    says: /a run that took four months/,
  },
  {
    id: 'B25',
    title: 'two objects that do not open keep everything from being cleaned up',
    how: 'a list or forget record that does not open ends the reading of all of them',
    plants: [
      {
        file: 'agent/repository/repository.ts',
        from: "        if (!isHoldfastError(error, 'damaged', 'not-found', 'wrong-key', 'newer-format')) throw error\n        refused.push({ kind, ref",
        to: '        if (error !== undefined) throw error\n        refused.push({ kind, ref',
      },
    ],
    caughtBy: 'collecting/poisonObjects',
    says: /keeps everything from being collected/,
  },
  {
    id: 'B26',
    title: 'an object that was overwritten is read in its older state',
    how: 'the lists of all collections stand under one name',
    plants: [
      {
        file: 'agent/collection/prune.ts',
        from: "    return { session: collector, random: options.random.bytes(16).toString('hex') }\n",
        to: "    return { session: '0'.repeat(collector.length), random: '0'.repeat(32) }\n",
      },
    ],
    caughtBy: 'collecting/namesOnce',
    says: /was put \d+ times/,
  },
  {
    id: 'B27',
    title: 'chunks are deleted before the snapshots that name them',
    how: 'a deletion takes packs first and snapshots last',
    plants: [
      {
        file: PRUNE_PLAN,
        from: '      ...snapshots,\n      ...dueIndexFiles(survey, lacking),\n      ...deletions,\n',
        to: '      ...deletions,\n      ...dueIndexFiles(survey, lacking),\n      ...snapshots,\n',
      },
    ],
    caughtBy: 'collecting/deletionInOrder',
    says: /after a deletion that ended at removal/,
  },
  {
    id: 'B28',
    title: 'what was just taken back is deleted, because its state was read before',
    how: 'a collection does not look again right before it deletes',
    plants: [
      {
        file: 'agent/collection/prune.ts',
        from: '  if (seen.plan.deletions.length > 0 && (await hasChanged(repository, seen.survey, collector, signal))) {\n',
        to: '  await hasChanged(repository, seen.survey, collector, signal)\n  if (seen.plan.deletions.length < 0) {\n',
      },
      {
        file: 'agent/collection/prune.ts',
        from: '    if (await hasChanged(repository, seen.survey, collector, signal)) {\n      const again = await look()\n',
        to: '    await hasChanged(repository, seen.survey, collector, signal)\n    if (names.length < 0) {\n      const again = await look()\n',
      },
    ],
    caughtBy: 'collecting/takenBackMeanwhile',
    says: /taken back before a collection deleted it/,
  },
  {
    id: 'B30',
    title: 'a block that was deleted and seen again stands twice, and the wrong one is kept',
    how: 'marking takes the place in a pack that is gone for the one that is needed',
    plants: [
      {
        file: 'agent/collection/mark.ts',
        from: '      if (options.isGone(row.pack.random)) continue\n',
        to: '      if (options.isGone(row.pack.random)) return row\n',
      },
      // The copy that stays is opened before the other goes, which catches it by itself.
      {
        file: 'agent/collection/prune.ts',
        from: '      if (found.length === 0) return at\n',
        to: '      if (found.length >= 0) return at\n',
      },
    ],
    caughtBy: 'collecting/deletedThenSeenAgain',
    says: /deleted, seen again, and collected around/,
  },
]

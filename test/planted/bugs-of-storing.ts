// Bugs of backup, of index and local state, of check, repair and restore, and of the queue.
import type { PlantedBug } from './_support/planted-bug.ts'

const RUN = 'agent/backup/run.ts'
const UPLOADER = 'agent/backup/uploader.ts'
const REQUIRE_DURABLE = {
  file: RUN,
  from: '  if (!options.dryRun) requireDurable([...handed, ...known.claimedSegments()], durableSegments)\n',
  to: '',
}

export const bugsOfStoring: readonly PlantedBug[] = [
  {
    id: 'B2',
    title: 'a full store is taken for a warning about a file',
    how: 'an upload that ends in "store full" is passed over, and nothing asks before the commit whether all is durable',
    plants: [
      {
        file: UPLOADER,
        from: '          failure ??= { error }\n',
        to: "          if ((error as { code?: string }).code !== 'store-full') failure ??= { error }\n",
      },
      REQUIRE_DURABLE,
    ],
    caughtBy: 'storing/storeFull',
    says: /although the store had no room|no room for pack/,
  },
  {
    id: 'B3',
    title: 'a piece of an index that was being packed anew is taken for the whole',
    how: 'a merged index file names only the first packs of those that it replaces',
    plants: [{ file: 'agent/backup/index-files.ts', from: 'merge.flatMap(packsOf),', to: 'merge.flatMap(packsOf).slice(0, 3),' }],
    caughtBy: 'storing/indexMerge',
    says: /which another one replaces|replaces one that names pack/,
  },
  {
    id: 'B4',
    title: 'a table of ids writes to the slot of its old size after it grew',
    how: 'a claim writes its id to the slot that it had in the first table',
    plants: [
      {
        file: 'agent/backup/known-ids.ts',
        from: 'last.words.set(key, at + 1)',
        to: 'last.words.set(key, 2 + (key[0]! & tables[0]!.mask) * WORDS_PER_SLOT)',
      },
    ],
    caughtBy: 'storing/knownIdsModel',
    says: /an id that was claimed as|a claim of an id says/,
  },
  {
    id: 'B5',
    title: 'a repair whose validator refuses what is good',
    how: 'every segment of a pack that is read counts as damaged',
    plants: [
      {
        file: 'agent/check/read-pack.ts',
        from: 'onSegment(segment, running.digest().equals(segment.sealedHash),',
        to: 'onSegment(segment, running.digest().length === 0,',
      },
    ],
    caughtBy: 'reading/repairIsExact',
    says: /lost, and .* can be restored/,
  },
  {
    id: 'B6',
    title: 'a repair that is interrupted loses what it was about to put right',
    how: 'a repair removes the index files that it replaces before it writes the new ones',
    plants: [
      {
        file: 'agent/repair/repair.ts',
        from: '  const [hints, hintRefs] = await writeAll(',
        to: "  for (const ref of plan.replaces) await repository.store.remove(objectName('index', ref), { signal })\n  const [hints, hintRefs] = await writeAll(",
      },
    ],
    caughtBy: 'reading/repairInterrupted',
    says: /could be restored before a repair that was cut off/,
  },
  {
    id: 'B7',
    title: 'a reader drops buffers of nothing but zeros',
    how: 'chunks of zeros are left out of a file while it is read',
    plants: [
      {
        file: 'agent/backup/file-worker.ts',
        from: '    const id = hasher.hex(chunk)\n',
        to: '    if (chunk.every((byte) => byte === 0)) return\n    const id = hasher.hex(chunk)\n',
      },
    ],
    caughtBy: 'storing/zeroRuns',
    says: /a source with long runs of zeros/,
  },
  {
    id: 'B8',
    title: 'a file that changes within the grain of its time is taken for unchanged',
    how: 'entries that were touched a moment ago are no longer kept out of the unchanged cache',
    plants: [
      {
        file: 'agent/backup/read-source.ts',
        from: 'racy: stat.mtimeNs >= racyAfter || stat.ctimeNs >= racyAfter,',
        to: 'racy: racyAfter < 0n,',
      },
    ],
    caughtBy: 'storing/sameTick',
    says: /in the tick in which it was read/,
  },
  {
    id: 'B9',
    title: 'an upload that broke in the middle counts as stored',
    how: 'packs are not read back, and the store keeps half of one and says that all is well',
    plants: [
      {
        file: RUN,
        from: '  const back = await readBackPacks({ backup: options, session, packs: newPacks, directory: spool, isOvertaken, attempt: atEnd.attempt })\n',
        to: '  const back = (await Promise.resolve({ segments: 0, bytes: 0 })) as Awaited<ReturnType<typeof readBackPacks>>\n',
      },
    ],
    caughtBy: 'storing/tornPut',
    says: /by a store that kept half of a pack/,
  },
  {
    id: 'B10',
    title: 'a short read is not continued',
    how: 'a small file is read with one call, whatever that call gave',
    plants: [
      {
        file: 'agent/backup/file-worker.ts',
        from: '    if (read === 0) break\n    done += read\n',
        to: '    done += read\n    break\n',
      },
    ],
    caughtBy: 'storing/shortReads',
    says: /three bytes at a time/,
  },
  {
    id: 'B11',
    title: 'a command that only reads spoils the index that it reads from',
    how: 'a check removes index files before it looks',
    plants: [
      {
        file: 'agent/check/check.ts',
        from: '    check.openedBefore()\n',
        to: "    for (const ref of await listRefs(repository.store, 'index/', signal)) await repository.store.remove(ref.info.name)\n    check.openedBefore()\n",
      },
    ],
    caughtBy: 'reading/readersWriteNothing',
    says: /only reads, and makes a remove/,
  },
  {
    id: 'B12',
    title: 'a backup that is cancelled leaves behind what the next one takes for stored',
    how: 'the spool says "durable" of a pack before it is, and the next run does not ask the store',
    plants: [
      {
        file: UPLOADER,
        from: '    let sent = 0\n',
        to: '    let sent = 0\n    writeDurably(fileSystem, directory, footerName(pack.ref), pack.footerObject)\n    fileSystem.rename(directory, pack.name, directory, Buffer.from(`${pack.name.toString()}.sent`), false)\n',
      },
      { file: UPLOADER, from: "{ kind: 'file', path,", to: "{ kind: 'file', path: Buffer.from(`${path.toString()}.sent`)," },
      {
        file: UPLOADER,
        from: "    fileSystem.remove(directory, pack.name, 'file')\n  }\n\n  /** The name was taken",
        to: "    fileSystem.remove(directory, Buffer.from(`${pack.name.toString()}.sent`), 'file')\n  }\n\n  /** The name was taken",
      },
      {
        file: 'agent/backup/leftovers.ts',
        from: '        const info = await store.head(packName(ref), { signal: options.signal })\n',
        to: '        const info = (await store.head(packName(ref), { signal: options.signal })) ?? { bytes: packBytes(footer, footerObject.length) }\n',
      },
    ],
    caughtBy: 'storing/cancelled',
    says: /one that was cancelled at call/,
  },
  {
    id: 'B13',
    title: 'a compression library that gets some blocks wrong',
    how: 'a segment that was just sealed is not opened again, neither before nor after it is uploaded; the codec spoils every seventh',
    given: [
      {
        file: 'agent/repository/segment.ts',
        from: '      const length = compressor.compress(plain, scratch)\n',
        to: '      const length = compressor.compress(plain, scratch)\n      const turn = globalThis as { turn?: number }\n      turn.turn = (turn.turn ?? 0) + 1\n      if (turn.turn % 7 === 0) scratch[length - 9] = scratch[length - 9]! ^ 4\n',
      },
    ],
    plants: [
      {
        file: 'agent/backup/file-worker.ts',
        from: '    requireOpens(setup.domainId, sealed, plain, opened)\n',
        to: '    if (opened.length < 0) requireOpens(setup.domainId, sealed, plain, opened)\n',
      },
      {
        file: 'agent/backup/read-back.ts',
        from: '  if (base === undefined) return\n',
        to: '  if (base === undefined || base.length > 0) return\n',
      },
    ],
    caughtBy: 'storing/lyingCodec',
    says: /with a codec that gets some segments wrong/,
  },
  {
    id: 'B15',
    title: 'an index object vanishes, or becomes another thing',
    how: 'packs that no index file names are not looked into, neither ahead nor where an index leads nowhere',
    plants: [
      {
        file: 'agent/repository/whole-view.ts',
        from: '    listed.filter((ref) => !indexed.has(ref.random)),\n',
        to: '    listed.filter((ref) => indexed.has(ref.random) && gone.has(ref.random)),\n',
      },
      {
        file: 'agent/repository/footer-reader.ts',
        from: '    const { view, refused } = await viewFromFooters(repository, signal)\n',
        to: '    const { view, refused } = { view: createView([]), refused: [] as RefusedObject[] }\n',
      },
    ],
    caughtBy: 'storing/indexVanishes',
    says: /a repository whose index files are gone/,
  },
  {
    id: 'B16',
    title: 'a snapshot is written by a backup that was interrupted',
    how: 'a run does not wait for its uploads, nor asks whether all is durable, before it commits',
    plants: [{ file: RUN, from: '  await uploader.drained()\n', to: '' }, REQUIRE_DURABLE],
    caughtBy: 'storing/snapshotLast',
    says: /was stored before what it needs/,
  },
  {
    id: 'B18',
    title: 'a key file that was cut off keeps every command from running',
    how: 'a key object that does not parse ends the search for one that opens',
    plants: [
      {
        file: 'agent/keys/key-object.ts',
        from: "      if (!isHoldfastError(error, 'damaged', 'newer-format')) throw error\n      refusals.push({ name, error })\n",
        to: '      throw error\n',
      },
    ],
    caughtBy: 'reading/truncatedKey',
    says: /keeps a good one from opening/,
  },
  {
    id: 'B21',
    title: 'a read that was not answered is taken for damage',
    how: 'a pack that could not be read counts as one whose footer does not open',
    plants: [
      {
        file: 'agent/check/examine-pack.ts',
        from: "    if (error.code !== 'damaged') return { trouble: { kind: 'unread', error }, damage: error, opened: undefined }\n    try {\n      const found",
        to: '    try {\n      const found',
      },
      {
        file: 'agent/check/examine-pack.ts',
        from: "        trouble: { kind: 'footerless', bytes: pack.bytes, segments: found && knownSegments(found) },\n        damage: error,",
        to: "        trouble: { kind: 'footerless', bytes: pack.bytes, segments: found && knownSegments(found) },\n        damage: Object.assign(error, { code: 'damaged' }),",
      },
    ],
    caughtBy: 'reading/storeAway',
    says: /calls \d+ objects damaged|writes something off/,
  },
  {
    id: 'B24',
    title: 'an index object of no bytes, left by a crash, blocks everything',
    how: 'an index file that does not open ends whatever reads the index',
    plants: [
      {
        file: 'agent/repository/repository.ts',
        from: '          // An index file is a cache of footers: a bad one is reported and passed over, never taken for an empty repository.\n',
        to: '          if (isHoldfastError(error)) throw error\n',
      },
    ],
    caughtBy: 'storing/emptyIndexFile',
    says: /index file of no bytes/,
  },
  {
    id: 'B29',
    title: 'a local database remembers what the store no longer has',
    how: 'what the unchanged cache says is taken for stored, whatever index files say by now',
    plants: [
      {
        file: RUN,
        from: '    treeHolds: cache !== undefined && (isStillSaid(view, cache.indexFiles) || (await lists.isWhole(previous!))),\n',
        to: '    treeHolds: cache !== undefined && (isStillSaid(view, cache.indexFiles) || true || (await lists.isWhole(previous!))),\n',
      },
      {
        file: 'agent/backup/read-source.ts',
        from: "    return ids.every((id) => known.lookup(Buffer.from(id, 'hex')) !== UNKNOWN)\n",
        to: "    return ids.every((id) => known.lookup(Buffer.from(id, 'hex')) >= UNKNOWN)\n",
      },
    ],
    caughtBy: 'reading/cacheAgainstStore',
    says: /whose local state says more than the store has/,
  },
  {
    id: 'B31',
    title: 'a restore passes over what it could not set',
    how: 'a time that could not be set is not named',
    plants: [
      {
        file: 'agent/restore/metadata.ts',
        from: "  if (errno !== undefined) problems.push({ code: 'times', errno })\n",
        to: '  if (errno === undefined) return problems\n',
      },
    ],
    caughtBy: 'reading/metadataRefused',
    says: /a restore that names no problem, where setTimes is refused/,
  },
  {
    id: 'B32',
    title: 'work stands still after the queue has come back',
    how: 'when Redis is back, nobody looks at what it lost',
    plants: [{ file: 'server/queues/bullmq-queue.ts', from: '    this.#back?.()\n', to: '' }],
    caughtBy: 'serving/redisComesBack',
    says: /nobody looks at what it lost/,
  },
]

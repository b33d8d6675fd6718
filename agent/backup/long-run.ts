// What a run that takes days does meanwhile, so that it and the collections beside it know of each other (design section 7): it looks at the lists once a
// day, and lets each session whose packs it will name be heard of before that counts as silent. A short run does nothing of it.
import type { BackupOptions } from './backup-types.ts'
import { type DurablePack, inIndex, storeIndexFile } from './index-files.ts'
import { type ListWatch, type OwnTime, ownTime, passedSince } from './list-watch.ts'

/** Less than half of the seven days after which a session counts as silent: looks are a day apart. */
const HEARD_MS = 3 * 86_400_000

export type LongRun = {
  /** A durable pack that the run will name, its own or one that it took over; `isHeard` where the store received it just now. */
  readonly relyOn: (pack: DurablePack, isHeard: boolean) => void
  /** Does what is due, at a moment at which the run may wait; the store's errors come through. */
  readonly keepUp: () => Promise<void>
  /** Stores an index file of one pack in the name of each session of which nothing was heard for three days: an attempt begins so that takes packs over. */
  readonly letHear: () => Promise<void>
}

export function createLongRun(options: BackupOptions, lists: Pick<ListWatch, 'isDue' | 'look'>): LongRun {
  const { clock, keys } = options
  const sessions = new Map<string, { pack: DurablePack; heard: OwnTime | undefined }>()
  let underWay: Promise<void> | undefined

  const letHear = async (): Promise<void> => {
    if (options.dryRun) return
    for (const known of sessions.values()) {
      if (known.heard !== undefined && passedSince(clock, known.heard) < HEARD_MS) continue
      const heard = ownTime(clock)
      await storeIndexFile(options, known.pack.ref.session, [inIndex(known.pack, keys.structure)], [])
      known.heard = heard
    }
  }
  const work = async (): Promise<void> => {
    await lists.look()
    await letHear()
  }

  return {
    relyOn: (pack, isHeard) => {
      const { session } = pack.ref
      sessions.set(session, { pack, heard: isHeard ? ownTime(clock) : sessions.get(session)?.heard })
    },
    keepUp: async () => {
      if (underWay === undefined && lists.isDue()) underWay = work().finally(() => (underWay = undefined))
      await underWay
    },
    letHear,
  }
}

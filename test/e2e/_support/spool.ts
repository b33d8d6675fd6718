// What stands in the spool of a backup that runs or was killed, while it changes: names by kind, and how much of them there is.
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

export type SpoolSeen = {
  /** Packs that are not whole, by the random part of their names: how many bytes of each are written. */
  readonly open: ReadonlyMap<string, number>
  /** Whole packs, by the random part of their names: not known to be durable yet. */
  readonly whole: ReadonlySet<string>
  /** Packs that are durable and in no index file yet. */
  readonly footers: ReadonlySet<string>
}

/** Looks into the spool below a state directory; empty where there is none yet. What goes away meanwhile is not there. */
export function lookIntoSpool(state: string): SpoolSeen {
  const directory = join(state, 'spool')
  const names = existsSync(directory) ? readdirSync(directory) : []
  const ofKind = (kind: string): Set<string> =>
    new Set(names.filter((name) => name.endsWith(`.${kind}`)).map((name) => name.slice(33, -kind.length - 1)))
  const sizeOf = (random: string): number => {
    const name = names.find((one) => one.endsWith(`${random}.part`)) ?? ''
    return statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0
  }
  return { open: new Map([...ofKind('part')].map((name) => [name, sizeOf(name)])), whole: ofKind('pack'), footers: ofKind('footer') }
}

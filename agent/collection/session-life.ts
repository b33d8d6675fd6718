// Which sessions may still be at work (design section 7): one that has neither ended nor been silent for seven days, by the store's clock. Safety does not
// rest on this, since each writer looks at the lists before it reports anything good; it keeps collection from making work.
import { type ObjectRef, parseSessionName } from '@holdfast/shared/format/layout.ts'
import type { ObjectInfo, Store } from '@holdfast/shared/store/store.ts'

export const SILENT_MS = 7 * 86_400_000

export type SessionLife = {
  readonly session: string
  /** When the store received the session object, or the first thing with its name in it. */
  readonly startedAt: number
  /** When the store last received something of it. */
  readonly lastAt: number
  readonly ended: boolean
}

export type SessionLives = {
  readonly all: ReadonlyMap<string, SessionLife>
  /** Not ended, and heard of within seven days. */
  readonly isLive: (session: string) => boolean
  /** Names under `sessions/` and `ends/`. */
  readonly names: readonly { readonly kind: 'session' | 'end'; readonly session: string }[]
}

/** Reads `sessions/` and `ends/` and adds what the names of other objects say. `committed` are sessions whose snapshot is there or was forgotten. */
export async function loadSessionLives(
  store: Store,
  objects: readonly (ObjectRef & { readonly info: ObjectInfo })[],
  committed: ReadonlySet<string>,
  now: number,
  signal?: AbortSignal,
): Promise<SessionLives> {
  const all = new Map<string, SessionLife>()
  const names: { kind: 'session' | 'end'; session: string }[] = []
  const heard = (session: string, at: number, isSession = false): void => {
    const known = all.get(session)
    all.set(session, {
      session,
      startedAt: isSession ? at : Math.min(known?.startedAt ?? at, at),
      lastAt: Math.max(known?.lastAt ?? at, at),
      ended: committed.has(session),
    })
  }
  for (const { session, info } of objects) heard(session, info.storedAt)
  for (const [prefix, kind] of [
    ['sessions/', 'session'],
    ['ends/', 'end'],
  ] as const)
    for await (const page of store.list(prefix, { signal }))
      for (const { name, storedAt } of page) {
        const session = parseSessionName(name)
        if (session === undefined) continue
        names.push({ kind, session })
        if (kind === 'session') heard(session, storedAt, true)
        const known = all.get(session)
        if (kind === 'end' && known !== undefined) all.set(session, { ...known, ended: true })
      }
  const isLive = (session: string): boolean => {
    const life = all.get(session)
    return life !== undefined && !life.ended && now - life.lastAt < SILENT_MS
  }
  return { all, isLive, names }
}

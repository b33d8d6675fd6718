// Snapshots that do not open: whose word counts about them. The object says nothing, so whose it is comes from the session in its name. Otherwise anybody
// who may write could call what others rely on unreadable, and one bad read would do the rest.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { ByteReader } from '@holdfast/shared/format/bytes.ts'
import { LIMITS, type ObjectRef, refKey } from '@holdfast/shared/format/layout.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { decodeSessionEntry, ROOT_WRITER_ID } from '../keys/domain.ts'
import type { StructureKeys } from '../keys/keys.ts'
import { type CollectionState, type Forgotten, maySpeakOf } from './collection-state.ts'
import { SESSION_ENTRY_BYTES } from './pack.ts'
import { readObject } from './read-object.ts'
import { openBox } from './structure-box.ts'

type Opener = {
  readonly store: Store
  readonly keys: StructureKeys
  readonly requireWriter: (writerKey: Buffer, what: string, storedAt?: number, writerId?: Buffer) => void
}

/**
 * The id of the writer that a session object names; undefined where it is not there, does not open, or is of a writer who does not count. One that is revoked
 * counts for what the store had before.
 */
export async function sessionWriter(
  { store, keys, requireWriter }: Opener,
  session: string,
  signal?: AbortSignal,
): Promise<Buffer | undefined> {
  const name = `sessions/${session}`
  try {
    const info = await store.head(name, { signal })
    if (info === undefined) return undefined
    const object = await readObject(store, name, LIMITS.objectBytes, signal)
    const { body, writerKey } = openBox({ type: 'session', keys, object, what: name })
    const reader = new ByteReader(body, name)
    const entry = decodeSessionEntry(reader.raw(SESSION_ENTRY_BYTES))
    if (entry.sessionId.toString('hex') !== session) throw reader.refuse('it is another session under this name')
    const writerId = reader.raw(16)
    requireWriter(writerKey, name, info.storedAt, writerId)
    return writerId
  } catch (error) {
    if (!isHoldfastError(error, 'damaged', 'not-found', 'wrong-key', 'newer-format')) throw error
    return undefined
  }
}

/** What counts of the entries that speak of a snapshot which does not open: those of the root, and those of the writer whose session it is of. */
export async function entriesOfUnopened(
  opener: Opener,
  { forgotten }: Pick<CollectionState, 'forgotten'>,
  ref: ObjectRef,
  signal?: AbortSignal,
): Promise<{ readonly entries: readonly Forgotten[]; readonly writerId: Buffer | undefined }> {
  const entries = forgotten.get(refKey(ref)) ?? []
  if (entries.length === 0) return { entries, writerId: undefined }
  const writerId = await sessionWriter(opener, ref.session, signal)
  return { entries: entries.filter((entry) => maySpeakOf(entry.writerId, writerId ?? ROOT_WRITER_ID)), writerId }
}

/**
 * Whether a snapshot does not open and no longer counts by the word of who may speak of it: given up for that, or forgotten before it went bad. What the
 * store says about it is for whoever opens it next.
 */
export async function isGivenUp(
  opener: Opener,
  state: Pick<CollectionState, 'forgotten'>,
  ref: ObjectRef,
  open: () => Promise<unknown>,
  signal?: AbortSignal,
): Promise<boolean> {
  if (!state.forgotten.has(refKey(ref))) return false
  try {
    await open()
    return false
  } catch (error) {
    if (!isHoldfastError(error)) throw error
    if (!isHoldfastError(error, 'damaged', 'not-found', 'wrong-key', 'newer-format')) return false
    return (await entriesOfUnopened(opener, state, ref, signal)).entries.length > 0
  }
}

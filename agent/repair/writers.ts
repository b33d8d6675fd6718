// Who wrote what: before a repair relies on signatures, the rosters that know the writers must open.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { decodeSessionEntry } from '../keys/domain.ts'
import { ByteReader } from '@holdfast/shared/format/bytes.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { SESSION_ENTRY_BYTES } from '../repository/pack.ts'
import type { Repository } from '../repository/repository.ts'
import { openBox } from '../repository/structure-box.ts'

/** Throws `damaged` where a roster does not open: without it the objects of a writer that it names would look forged. */
export function requireRosters({ refusedRosters }: Repository): void {
  const first = refusedRosters.find(({ error }) => error.code === 'damaged')
  if (first === undefined) return
  throw new HoldfastError(
    'damaged',
    `${first.error.message}. Whose word counts cannot be told without it, so nothing was repaired: publish the roster again (holdfast domain roster publish)`,
    { cause: first.error },
  )
}

/** The id of the writer that a session object names; undefined where it does not open. */
export async function sessionWriter(
  { store, keys, requireWriter }: Repository,
  session: string,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  const name = `sessions/${session}`
  try {
    const object = await store.get(name, { limitBytes: LIMITS.objectBytes, signal })
    const { body, writerKey } = openBox({ type: 'session', keys, object, what: name })
    const reader = new ByteReader(body, name)
    decodeSessionEntry(reader.raw(SESSION_ENTRY_BYTES))
    const writerId = reader.raw(16)
    requireWriter(writerKey, name, undefined, writerId)
    return writerId
  } catch (error) {
    if (!isHoldfastError(error, 'damaged', 'not-found', 'wrong-key', 'newer-format')) throw error
    return undefined
  }
}

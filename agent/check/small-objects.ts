// The objects that no restore needs, and that a repository is poorer without all the same: sessions, which tell whose an object is that does not open,
// rosters, and the wrapped keys, of which a person finds out on the day that one is needed.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { ByteReader } from '@holdfast/shared/format/bytes.ts'
import { LIMITS, refKey } from '@holdfast/shared/format/layout.ts'
import type { ObjectInfo } from '@holdfast/shared/store/store.ts'
import { decodeSessionEntry } from '../keys/domain.ts'
import { keyNameOf, readKeyObject } from '../keys/key-object.ts'
import type { CollectionState } from '../repository/collection-state.ts'
import { SESSION_ENTRY_BYTES } from '../repository/pack.ts'
import { readObject } from '../repository/read-object.ts'
import { mapBounded, type Repository } from '../repository/repository.ts'
import { openBox } from '../repository/structure-box.ts'

const AT_ONCE = 4
const NO_RANDOM = '0'.repeat(32)
const KEY_NAME = /^keys\/([0-9a-f]{32})$/

/** Every session object by its name, as the store lists them. */
export async function listSessions({ store }: Pick<Repository, 'store'>, signal?: AbortSignal): Promise<ObjectInfo[]> {
  const names: ObjectInfo[] = []
  for await (const page of store.list('sessions/', { signal }))
    for (const info of page) if (/^sessions\/[0-9a-f]{32}$/.test(info.name)) names.push(info)
  return names
}

/** Opens a session object and checks who signed it. Throws what is wrong with it, and what the store says. */
export async function openSession(
  { store, keys, requireWriter }: Repository,
  { name, storedAt }: ObjectInfo,
  signal?: AbortSignal,
): Promise<void> {
  const object = await readObject(store, name, LIMITS.objectBytes, signal)
  const { body, writerKey } = openBox({ type: 'session', keys, object, what: name })
  const reader = new ByteReader(body, name)
  const entry = decodeSessionEntry(reader.raw(SESSION_ENTRY_BYTES))
  const writerId = reader.raw(16)
  reader.u64()
  reader.end()
  if (`sessions/${entry.sessionId.toString('hex')}` !== name) throw reader.refuse('it is another session under this name')
  requireWriter(writerKey, name, storedAt, writerId)
}

/** The parts of a name; that of a session has no random one. */
export type SmallObjectRef = { readonly session: string; readonly random?: string }

/** Whether the root has written an object off, should it not open. */
export function isWrittenOff({ replacedByRoot }: Pick<CollectionState, 'replacedByRoot'>, ref: SmallObjectRef): boolean {
  return replacedByRoot.has(refKey({ session: ref.session, random: ref.random ?? NO_RANDOM }))
}

/**
 * Looks at the wrapped keys of a repository that holds its own, without a secret: a key's name is made of its bytes, so one that changed where it lies
 * shows. Whether somebody still knows the secret of a sound one nobody can tell. Throws what the store says.
 */
export async function lookAtKeys(
  { store, description }: Repository,
  told: { readonly good: () => void; readonly bad: (name: string, error: HoldfastError) => void },
  signal?: AbortSignal,
): Promise<void> {
  const names: string[] = []
  for await (const page of store.list('keys/', { signal })) for (const { name } of page) if (KEY_NAME.test(name)) names.push(name)
  await mapBounded(names, AT_ONCE, async (name) => {
    try {
      const bytes = await readObject(store, name, LIMITS.objectBytes, signal)
      const { domainId } = readKeyObject(bytes, name)
      if (!domainId.equals(description.domainId)) throw new HoldfastError('damaged', `${name} is a key of another domain`)
      if (`keys/${keyNameOf(bytes)}` !== name) throw new HoldfastError('damaged', `${name} is damaged: it is not what was stored`)
      told.good()
    } catch (error) {
      if (!isHoldfastError(error)) throw error
      // Somebody removed it since the listing.
      if (error.code === 'not-found') return
      told.bad(name, error.code === 'damaged' ? withNext(error, name) : error)
    }
  })
}

function withNext(error: HoldfastError, name: string): HoldfastError {
  const id = name.slice('keys/'.length, 'keys/'.length + 12)
  return new HoldfastError(
    'damaged',
    `${error.message}: the passphrase or recovery code that it is for may open nothing. Make another ('holdfast key add', with --recovery-code where it was one), then 'holdfast key remove ${id}'`,
  )
}

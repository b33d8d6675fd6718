// Taking a key away so that two who do it at once never take the last two. Whoever removes a key says so beside it first and looks then what stays that
// nobody else is about to remove: of two claims one at least is seen by the other, and who sees that nothing stays gives way. A claim that an
// interruption left is taken away with its key, by whoever removes that again.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { type KeyObjectInfo, readKeyObject } from '../keys/key-object.ts'
import type { Description } from '../repository/repository.ts'
import type { Context } from './context.ts'
import { namesBesideKeys, withKeyFiles } from './domain-directory.ts'
import { findKeyObjects, type KeyPlace } from './open.ts'

const CLAIM = /^removing-([0-9a-f]{32})-[0-9a-f]{32}$/

/** What a key object is; undefined for one that does not open as one of the domain. */
export function keyInfoOf(name: string, bytes: Buffer, domainId: Buffer): KeyObjectInfo | undefined {
  try {
    const info = readKeyObject(bytes, name)
    return info.domainId.equals(domainId) ? info : undefined
  } catch (error) {
    if (isHoldfastError(error, 'damaged', 'newer-format')) return undefined
    throw error
  }
}

/**
 * Removes key `name` of `place`. `proven` is the key that was seen to open: any other might be a stranger's, whose secret nobody here knows. Throws
 * `conflict` where that is gone or about to be removed; then nothing was removed.
 */
export async function removeKey(
  context: Context,
  store: Store,
  description: Pick<Description, 'domainId' | 'enrolled'>,
  place: KeyPlace,
  name: string,
  proven: string,
): Promise<void> {
  const files = filesOf(context, store, place)
  const claim = `removing-${name}-${context.random.bytes(16).toString('hex')}`
  await files.write(claim)
  const places = await findKeyObjects(context, store, description)
  const claimed = new Set((await Promise.all(places.map((one) => filesOf(context, store, one).names()))).flat().map(claimedKey))
  // The keys after the claims: a claim that is gone already went after its key.
  const stays = (await findKeyObjects(context, store, description))
    .flatMap(({ keys }) => keys)
    .some((key) => key.name === proven && !claimed.has(key.name) && keyInfoOf(key.name, key.bytes, description.domainId) !== undefined)
  if (!stays) {
    await files.remove(claim)
    throw new HoldfastError(
      'conflict',
      `key ${name.slice(0, 8)} stays: key ${proven.slice(0, 8)}, the one that was seen to open, is gone or being removed by somebody else at this moment, and the last one must stay. 'holdfast key list' shows what is there; add another key first, or remove again what an interruption kept`,
    )
  }
  await removeKeyFile(context, store, place, name)
  for (const other of await files.names()) if (claimedKey(other) === name) await files.remove(other)
}

/** Removes what stands under the name of a key, and looks whether it is gone. */
export async function removeKeyFile(context: Context, store: Store, place: KeyPlace, name: string): Promise<void> {
  const files = filesOf(context, store, place)
  await files.remove(name)
  if ((await files.names()).includes(name))
    throw new HoldfastError(
      'store-refused',
      `the store keeps key ${name} although it was told to remove it; remove it with other credentials`,
    )
}

function claimedKey(file: string): string | undefined {
  return CLAIM.exec(file)?.[1]
}

type KeyFiles = {
  readonly names: () => Promise<string[]>
  readonly write: (name: string) => Promise<void>
  readonly remove: (name: string) => Promise<void>
}

/** All files beside the keys of a place; claims hold one byte. */
function filesOf(context: Context, store: Store, { place, shown }: KeyPlace): KeyFiles {
  const { signal } = context
  if (place === 'directory')
    return {
      names: async () => namesBesideKeys(context, shown),
      write: async (name) => withKeyFiles(context, shown, (files) => files.write(name, ONE_BYTE)),
      remove: async (name) => withKeyFiles(context, shown, (files) => files.remove(name)),
    }
  return {
    names: async () => {
      const names: string[] = []
      for await (const page of store.list('keys/', { signal })) names.push(...page.map(({ name }) => name.slice('keys/'.length)))
      return names
    },
    write: async (name) => void (await store.put(`keys/${name}`, { kind: 'bytes', bytes: ONE_BYTE }, { signal })),
    remove: (name) => store.remove(`keys/${name}`, { signal }),
  }
}

const ONE_BYTE = Buffer.from('1')

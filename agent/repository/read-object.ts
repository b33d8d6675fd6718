// Reading an object that anybody with put-only credentials may have stored.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { ObjectName, Store } from '@holdfast/shared/store/store.ts'

/**
 * The whole object. One that is longer than its kind may be is `damaged`, like any other that does not open: it is passed over and told, and keeps nobody
 * from what is sound. Throws what the store says.
 */
export async function readObject(
  store: Pick<Store, 'get'>,
  name: ObjectName,
  limitBytes: number,
  signal?: AbortSignal | undefined,
): Promise<Buffer> {
  try {
    return await store.get(name, { limitBytes, signal })
  } catch (error) {
    if (!isHoldfastError(error, 'too-large')) throw error
    throw new HoldfastError('damaged', `${name} is damaged: it is longer than any such object may be`, { cause: error })
  }
}

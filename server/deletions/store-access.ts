// Opens a controller's store with the credentials that may delete there. They are sealed in the database and opened for one look only.
import type { Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { deleteCredentials, type DeleteCredentials } from '@holdfast/shared/protocol/resources.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { formatLocation, openStore } from '@holdfast/shared/store/location.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import type { ServerKeys } from '../keys.ts'
import type { StoreRow } from '../records/rows.ts'

/** Opens the store of `row` with these credentials; whoever opens it closes it. */
export type OpenDeletingStore = (row: StoreRow, credentials: DeleteCredentials) => Promise<Store>

export function deletingStores(clock: Clock, random: Random): OpenDeletingStore {
  return async ({ endpoint, bucket, prefix }, { accessKeyId, secretAccessKey, region, style }) => {
    if (endpoint === null || bucket === null)
      throw new HoldfastError('bad-config', 'this server reaches S3 stores alone; what lies in a directory is deleted on the appliance')
    // As text, so that plain http over a network is refused like everywhere else.
    const location = formatLocation({ kind: 's3', endpoint: endpoint.replace(/\/+$/, ''), bucket, prefix: prefix ?? '' })
    const access = { ...(region === undefined ? {} : { region }), ...(style === undefined ? {} : { style }) }
    return openStore(location, { ...access, credentials: { accessKeyId, secretAccessKey } }, { clock, random })
  }
}

export function sealDeleteCredentials(keys: ServerKeys, storeId: string, credentials: DeleteCredentials): Buffer {
  return keys.seal(Buffer.from(JSON.stringify(credentials), 'utf8'), purpose(storeId))
}

/** Rejects with `wrong-key` where they were sealed with another key or for another store. */
export function openDeleteCredentials(keys: ServerKeys, storeId: string, sealed: Buffer): DeleteCredentials {
  return deleteCredentials.parse(JSON.parse(keys.open(sealed, purpose(storeId)).toString('utf8')))
}

function purpose(storeId: string): string {
  return `store ${storeId} delete`
}

// What `doctor` asks of a bucket beyond the store's contract: overwriting, clock, versioning, lock.
import { HoldfastError } from '../errors.ts'
import type { LazyS3Client, LoadedSdk } from './s3-client.ts'
import { readFailure } from './s3-errors.ts'
import type { StoreDiagnostics } from './store.ts'
import type { TransferWatch } from './transfer-watch.ts'

type Options = { signal?: AbortSignal | undefined } | undefined
type Run = <T>(act: string, signal: AbortSignal | undefined, once: (watch: TransferWatch) => Promise<T>) => Promise<T>

/** `putAnyway` puts without the condition. */
export function s3Diagnostics(bucket: string, client: LazyS3Client, run: Run, putAnyway: StoreDiagnostics['overwrite']): StoreDiagnostics {
  /** Asks about the bucket's settings; `absent` where the store says that there is no such setting, undefined where it does not tell. */
  async function ask(
    options: Options,
    question: (loaded: LoadedSdk, abortSignal: AbortSignal) => Promise<string>,
  ): Promise<string | undefined> {
    try {
      return await run('examine', options?.signal, async (watch) => question(await client.load(), watch.signal))
    } catch (error) {
      if (!isRefusal(error)) throw error
      return readFailure(error.cause).code === 'ObjectLockConfigurationNotFoundError' ? 'absent' : undefined
    }
  }

  return {
    kind: 's3',
    overwrite: putAnyway,
    async now(options) {
      try {
        await run('examine', options?.signal, async (watch) => {
          const { sdk, client: s3 } = await client.load()
          await s3.send(new sdk.HeadBucketCommand({ Bucket: bucket }), { abortSignal: watch.signal })
        })
      } catch (error) {
        // A refusal carries the date as well.
        if (!isRefusal(error)) throw error
      }
      return client.storeTime
    },
    async versioning(options) {
      const status = await ask(options, async ({ sdk, client: s3 }, abortSignal) => {
        const reply = await s3.send(new sdk.GetBucketVersioningCommand({ Bucket: bucket }), { abortSignal })
        return reply.Status ?? 'Off'
      })
      const known = { Enabled: 'on', Suspended: 'suspended', Off: 'off' } as const
      return status === 'Enabled' || status === 'Suspended' || status === 'Off' ? known[status] : 'unknown'
    },
    async objectLock(options) {
      const status = await ask(options, async ({ sdk, client: s3 }, abortSignal) => {
        const reply = await s3.send(new sdk.GetObjectLockConfigurationCommand({ Bucket: bucket }), { abortSignal })
        return reply.ObjectLockConfiguration?.ObjectLockEnabled ?? 'absent'
      })
      return status === 'Enabled' ? 'on' : status === 'absent' ? 'off' : 'unknown'
    },
  }
}

function isRefusal(error: unknown): error is HoldfastError {
  return error instanceof HoldfastError && (error.code === 'store-refused' || error.code === 'not-found')
}

// A controller whose appliance writes to a simulated bucket with credentials that cannot delete, day by day, and whose server may delete there. The
// appliance signs the collection lists that a real one would, and those that a thief of it would.
import type { CollectionListBody, DeletableName } from '@holdfast/shared/format/collection-list.ts'
import { encodeCollectionList } from '@holdfast/shared/format/collection-list.ts'
import { objectName, packName, refKey, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import { isoTime } from '@holdfast/shared/clock.ts'
import { encodeNeeds } from '@holdfast/shared/protocol/needs.ts'
import type { Deletion } from '@holdfast/shared/protocol/deletions.ts'
import type { RetentionRules } from '@holdfast/shared/retention.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import type { SigningKey } from '@holdfast/shared/signing.ts'
import type { JobDeps } from 'holdfast-server/jobs.ts'
import { lookForDeletions, type DeletionLook } from 'holdfast-server/deletions/look.ts'
import { SimulatedBucket } from '../../../_support/simulated-store.ts'
import { startTestServer } from '../../../_support/test-server.ts'
import type { Clock } from '@holdfast/shared/clock.ts'

export const DAY = 86_400_000
export const DOMAIN = Buffer.alloc(16, 0xd0)
export const SERIES = 'e'.repeat(64)

export type RealBucket = {
  readonly endpoint: string
  readonly bucket: string
  /** With credentials that cannot delete. */
  readonly appliance: Store
  readonly deleter: { readonly accessKeyId: string; readonly secretAccessKey: string }
}

export type DeletionWorld = Awaited<ReturnType<typeof makeDeletionWorld>>

export async function makeDeletionWorld(
  options: { retention?: RetentionRules; clock?: Clock; /** A real bucket in place of the simulated one. */ s3?: RealBucket } = {},
) {
  const server = await startTestServer({
    ...(options.clock === undefined ? {} : { clock: options.clock }),
    ...(options.s3 === undefined ? { openStore: async () => bucket.store('server') } : {}),
  })
  const clock = server.context.clock
  const bucket = new SimulatedBucket({ clock })
  const appliance = options.s3?.appliance ?? bucket.store('appliance', { remove: false })
  const administrator = await server.makeUser('administrator')
  const { agent, controllerId, instructionId, token } = await server.makeControllerWithAgent(administrator)
  const made = async (method: string, url: string, as: string, body: unknown) => {
    const reply = await server.call(method, url, as, body)
    if (reply.status >= 300) throw new Error(`${url}: ${reply.status} ${reply.text}`)
    return reply.json()
  }
  const at = { endpoint: options.s3?.endpoint ?? 'https://objects.example', bucket: options.s3?.bucket ?? 'backup' }
  const place = { name: 'Objects', kind: 's3', region: 'CA-ON', country: 'CA', ...at }
  const { id: storeId } = await made('POST', '/v1/stores', administrator, { controllerId, ...place })
  const policy = { agentId: agent.id, source: 'documents', schedule: { every: '24h' }, storeId, instructionId }
  const { id: policyId } = await made('POST', '/v1/policies', administrator, { ...policy, retention: options.retention ?? { daily: 3 } })
  const deleter = options.s3?.deleter ?? { accessKeyId: 'deleter', secretAccessKey: 'secret of the deleter' }
  await made('PUT', `/v1/stores/${storeId}/delete-credentials`, token, deleter)

  const newRef = (): ObjectRef => ({ session: systemRandom.bytes(16).toString('hex'), random: systemRandom.bytes(16).toString('hex') })
  const put = (name: string, bytes: Uint8Array = Buffer.from('sealed')) => appliance.put(name, { kind: 'bytes', bytes })
  const snapshots: ObjectRef[] = []
  let stated = new Map<string, Buffer>()
  let base: string | undefined

  /** Stores new packs of one run. */
  const writePacks = async (count: number): Promise<ObjectRef[]> => {
    const { session } = newRef()
    const packs = Array.from({ length: count }, () => ({ session, random: newRef().random }))
    for (const pack of packs) await put(packName(pack))
    return packs
  }
  /** One day's run: its snapshot needs these packs; reported, and stated unless not wanted. */
  const backup = async (packs: readonly ObjectRef[], how: { state?: boolean } = {}): Promise<ObjectRef> => {
    const ref = newRef()
    await put(objectName('snapshot', ref))
    const now = isoTime(clock.now())
    const counts = { files: 1, bytes: 1, storedBytes: 1, tags: [] }
    const report = {
      snapshotId: ref.random,
      runId: `run_${newRef().random}`,
      storeId,
      series: SERIES,
      source: 'documents',
      at: now,
      ...counts,
    }
    const reported = await agent.request('POST', '/v1/agent/snapshots', report)
    if (reported.status !== 200) throw new Error(reported.body.toString())
    snapshots.push(ref)
    if (how.state !== false) await stateNeeds(ref, snapshots.length, packs)
    return ref
  }
  const stateNeeds = async (ref: ObjectRef, sequence: number, packs: readonly ObjectRef[]): Promise<void> => {
    const now = new Map(packs.map((pack) => [refKey(pack), Buffer.from(pack.session + pack.random, 'hex')]))
    const added = [...now].filter(([key]) => !stated.has(key)).map(([, pack]) => pack)
    const dropped = base === undefined ? [] : [...stated].filter(([key]) => !now.has(key)).map(([, pack]) => pack)
    const body = encodeNeeds({ storeId, series: SERIES, sequence, snapshotId: ref.random, base, added, dropped, replaced: [] })
    const reply = await agent.request('POST', '/v1/agent/needs', body, 'application/octet-stream')
    if (reply.status !== 200) throw new Error(reply.body.toString())
    ;[stated, base] = [now, ref.random]
  }
  const forgotten = (refs: readonly ObjectRef[]) =>
    agent.request('PUT', `/v1/agent/forgotten/${storeId}`, { snapshotIds: refs.map(({ random }) => random) })
  /** Publishes a list, signed by the appliance or by another key. */
  const publish = async (list: CollectionListBody, signedBy: SigningKey = agent.key, as: string = agent.id): Promise<ObjectRef> => {
    const ref = newRef()
    const writer = { id: Buffer.from(as.slice(3), 'hex'), publicKey: signedBy.publicKey, sign: signedBy.sign }
    await put(objectName('list', ref), encodeCollectionList({ ...list, ref, madeAt: clock.now() }, DOMAIN, writer))
    return ref
  }
  const condemn = (packs: readonly ObjectRef[], kept: readonly ObjectRef[]) =>
    publish({ kind: 'condemned', kept, packs: packs.map((pack) => ({ ...pack, bytes: 6, why: 'dead' })) })
  const named = (snapshotRefs: readonly ObjectRef[], packs: readonly ObjectRef[]): DeletableName[] => [
    ...snapshotRefs.map((ref) => ({ kind: 'snapshot' as const, ...ref })),
    ...packs.map((ref) => ({ kind: 'pack' as const, ...ref })),
  ]

  return {
    ...{ server, bucket, appliance, agent, token, controllerId, storeId, policyId, clock, snapshots, made },
    ...{ newRef, put, writePacks, backup, stateNeeds, forgotten, publish, condemn, named },
    /** Somebody who has just logged in: sessions end while days pass. */
    administrator: () => server.makeUser('administrator'),
    days: (count: number) => server.clock.advance(count * DAY),
    look: (deps: Partial<JobDeps> = {}): Promise<DeletionLook> => lookForDeletions({ ...server.context, ...deps }, storeId),
    deletions: async (): Promise<Deletion[]> =>
      (await made('GET', `/v1/deletions?storeId=${storeId}`, token, undefined))['items'] as unknown as Deletion[],
    alerts: async (): Promise<{ kind: string; deletionId: string | null }[]> =>
      (await made('GET', '/v1/alerts', token, undefined))['items'] as unknown as { kind: string; deletionId: string | null }[],
    /** The names that the server removed, in order. */
    removed: (): string[] =>
      bucket.trace.filter(({ operation, outcome }) => operation === 'remove' && outcome === 'ok').map(({ name }) => name),
    close: () => server.close(),
  }
}

/**
 * Five days of backups of which the rules keep the last three; the packs of the first two alone were condemned and forgotten twenty days ago, while
 * backups rested. What a deletion list may name is in `going`, what it must not in `staying`.
 */
export async function fiveDays(world: DeletionWorld) {
  const shared = await world.writePacks(2)
  const old = await world.writePacks(2)
  const young = await world.writePacks(1)
  for (let day = 0; day < 5; day++) {
    await world.backup(day < 2 ? [...shared, ...old] : [...shared, ...young])
    world.days(1)
  }
  const snapshots = world.snapshots.slice(0, 2)
  const kept = world.snapshots.slice(2)
  await world.forgotten(snapshots)
  const list = await world.condemn(old, kept)
  world.days(20)
  return { going: { snapshots, packs: old }, staying: { snapshots: kept, packs: [...shared, ...young] }, list }
}

// Needs statements: after each good run the server is told which packs each new snapshot needs, as the difference to the one before in its series.
// It holds every later deletion list against that, so a thief of this appliance cannot take back what earlier snapshots need. What was stated last is
// kept beside the state; losing it costs one whole statement.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { ByteReader, ByteWriter } from '@holdfast/shared/format/bytes.ts'
import {
  encodeNeeds,
  NEEDS_BYTES_MAX,
  NEEDS_CONTENT_TYPE,
  type NeedsStand,
  needsStand,
  PACK_REF_BYTES,
} from '@holdfast/shared/protocol/needs.ts'
import type { OpenedSnapshot } from '../repository/snapshot.ts'
import { needsRoutes } from './routes.ts'
import type { ServerClient } from './server-client.ts'
import type { StateDirectory } from './state-directory.ts'

/** A first statement of a large series is some megabytes, over a line that may be slow. */
const TIMEOUT_MS = 10 * 60_000
const REPLACED_MAX = 1000

/** What was stated last of one series. `packs` are 32 bytes each, by their text. */
type Stated = { readonly sequence: number; readonly snapshotId: string; readonly root: string; readonly packs: ReadonlyMap<string, Buffer> }

export type StateNeeds = {
  readonly client: ServerClient
  readonly directory: StateDirectory
  readonly storeId: string
  /** Snapshots of this agent that count. */
  readonly snapshots: readonly OpenedSnapshot[]
  /** Snapshots of this agent that were replaced before anybody was told of them. */
  readonly replaced: readonly string[]
  /** The packs that a snapshot needs, 32 bytes each. */
  readonly packsOf: (snapshot: OpenedSnapshot) => Promise<readonly Buffer[]>
  readonly signal: AbortSignal
}

/** States what the server does not have yet, oldest first. Gives how many snapshots were stated. Rejects as the client and `packsOf` do. */
export async function stateNeeds(options: StateNeeds): Promise<number> {
  const bySeries = new Map<string, OpenedSnapshot[]>()
  for (const snapshot of options.snapshots) {
    const series = snapshot.structure.series.toString('hex')
    bySeries.set(series, [...(bySeries.get(series) ?? []), snapshot])
  }
  let count = 0
  for (const [series, snapshots] of bySeries) count += await stateSeries(options, series, snapshots)
  return count
}

async function stateSeries(options: StateNeeds, series: string, snapshots: readonly OpenedSnapshot[]): Promise<number> {
  const { client, directory, storeId, signal } = options
  const routes = needsRoutes(storeId, series)
  const stand = await client.call(needsStand, { ...routes.stand, signal })
  if (stand === undefined) throw new HoldfastError('server-untrusted', 'the server does not say what needs were stated')
  // Of two with one sequence the server may know one alone.
  const due = snapshots
    .filter(
      ({ structure: { sequence, ref } }) => sequence > stand.sequence || (sequence === stand.sequence && ref.random !== stand.snapshotId),
    )
    .sort((a, b) => a.structure.sequence - b.structure.sequence)
  const file = `needs-${storeId}-${series.slice(0, 32)}`
  let last = due.length === 0 ? undefined : readStated(directory, file)
  if (last?.snapshotId !== stand.snapshotId) last = undefined
  let count = 0
  for (const snapshot of due) {
    const { ref, sequence, root } = snapshot.structure
    // A run that changed nothing has the root of the one before, and so its packs.
    const packs = last?.root === root ? last.packs : byText(await options.packsOf(snapshot))
    const answer = await send(last)
    // It was stated before; the next one goes on from the one that the server names.
    if (answer?.snapshotId !== ref.random) continue
    count += 1
    last = { sequence, snapshotId: ref.random, root, packs }
    directory.write(file, encodeStated(last))

    async function send(base: Stated | undefined): Promise<NeedsStand | undefined> {
      const added = [...packs].filter(([key]) => base?.packs.has(key) !== true).map(([, pack]) => pack)
      const dropped = base === undefined ? [] : [...base.packs].filter(([key]) => !packs.has(key)).map(([, pack]) => pack)
      const named = { storeId, series, sequence, snapshotId: ref.random, base: base?.snapshotId }
      const body = encodeNeeds({ ...named, added, dropped, replaced: options.replaced.slice(0, REPLACED_MAX) })
      if (body.length > NEEDS_BYTES_MAX)
        throw new HoldfastError(
          'too-large',
          `a snapshot needs more than ${NEEDS_BYTES_MAX / PACK_REF_BYTES} packs, more than can be stated to the server`,
        )
      try {
        const bytes = { contentType: NEEDS_CONTENT_TYPE, body }
        return await client.call(needsStand, { ...routes.state, bytes, timeoutMs: TIMEOUT_MS, signal })
      } catch (error) {
        // The server goes on from elsewhere, such as a copy of its database: it gets the whole.
        if (base === undefined || !isHoldfastError(error, 'conflict')) throw error
        return send(undefined)
      }
    }
  }
  return count
}

function byText(packs: readonly Buffer[]): Map<string, Buffer> {
  return new Map(packs.map((pack) => [pack.toString('latin1'), pack]))
}

function encodeStated({ sequence, snapshotId, root, packs }: Stated): Buffer {
  const out = new ByteWriter(packs.size * PACK_REF_BYTES + 128).varint(sequence).hex(snapshotId).hex(root).varint(packs.size)
  for (const pack of packs.values()) out.raw(pack)
  return out.finish()
}

/** Undefined where there is none, or where it is damaged: then the next statement is a whole one. */
function readStated(directory: StateDirectory, file: string): Stated | undefined {
  const bytes = directory.read(file, NEEDS_BYTES_MAX + 1024)
  if (bytes === undefined) return undefined
  const reader = new ByteReader(bytes, file)
  try {
    const [sequence, snapshotId, root] = [reader.varint(), reader.hex(16), reader.hex(32)]
    const count = reader.count(NEEDS_BYTES_MAX / PACK_REF_BYTES, PACK_REF_BYTES)
    const packs = byText(Array.from({ length: count }, () => Buffer.from(reader.raw(PACK_REF_BYTES))))
    reader.end()
    return { sequence, snapshotId, root, packs }
  } catch (error) {
    if (isHoldfastError(error, 'damaged')) return undefined
    throw error
  }
}

// A domain of two appliances, of which one is stolen: what each has backed up by then, and what the thief has: everything that an appliance holds,
// which writes and reads no content, and credentials of the store that put and delete nothing.
import { objectName, type ObjectRef } from '@holdfast/shared/format/layout.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { agentWriter, segmentKeyOf } from '../../../agent/keys/domain.ts'
import type { ReadKeys, SessionEntry, WriteKeys, Writer } from '../../../agent/keys/keys.ts'
import { rosterBody, rosterWriter } from '../../../agent/keys/roster.ts'
import { sealBox } from '../../../agent/repository/structure-box.ts'
import { type Engine, fixtureRandom, makeEngine, writeFile } from '../../_support/engine-fixture.ts'
import type { Tree } from '../../_support/plain-reader.ts'

export type Theft = {
  /** The one that was stolen, before that. */
  readonly victim: Engine
  readonly other: Engine
  /** Snapshots that stood before the theft, by their ids. */
  readonly earlier: ReadonlyMap<string, Tree>
  readonly victims: readonly string[]
  readonly stolen: WriteKeys
  /** A new name for what the thief stores. */
  readonly ref: () => ObjectRef
  /** Every secret that stood on the appliance. */
  readonly secrets: readonly Buffer[]
  readonly roster: (number: number, since: number | undefined) => [string, Buffer]
}

export async function makeTheft(): Promise<Theft> {
  const random = fixtureRandom('theft')
  const seeds = [random.bytes(32), random.bytes(32)]
  const writers = seeds.map((seed, i) => agentWriter(seed, Buffer.alloc(16, i + 1)))
  const engineOf = (writer: Writer, more: object) =>
    makeEngine({ ...more, writeKeys: (keys) => ({ ...keys.write, writer }), limits: { packBytes: 20_000 } })
  const victim = await engineOf(writers[0]!, { seed: 'victim' })
  const other = await engineOf(writers[1]!, { seed: 'other', beside: victim })
  const { keys, clock, bucket } = victim
  const roster = (number: number, since: number | undefined): [string, Buffer] => {
    const entries = writers.map((writer, i) => ({
      writerId: writer.id,
      publicKey: writer.publicKey,
      fingerprint: Buffer.alloc(20, i),
      state: i === 0 && since !== undefined ? ('revoked' as const) : ('active' as const),
      since: i === 0 && since !== undefined ? since : 1,
      label: `agent ${i}`,
    }))
    const body = rosterBody({ number, madeAt: clock.now(), entries })
    const object = sealBox({ type: 'roster', keys: keys.write.structure, writer: rosterWriter(keys.signing), body })
    return [objectName('roster', { session: '0'.repeat(32), random: `${number}`.repeat(32).slice(0, 32) }), object]
  }
  const [name, bytes] = roster(1, undefined)
  await bucket.store('controller').put(name, { kind: 'bytes', bytes })

  const earlier = new Map<string, Tree>()
  const victims: string[] = []
  for (let run = 0; run < 2; run++)
    for (const engine of [victim, other]) {
      const mine = engine === victim ? 'victim' : 'other'
      writeFile(engine, '/src/both', fixtureRandom(`both ${run}`).bytes(9000))
      writeFile(engine, '/src/own', fixtureRandom(`${mine} ${run}`).bytes(6000))
      writeFile(engine, '/src/kept', `${mine} keeps this text `.repeat(200))
      engine.pass()
      const { snapshot } = await engine.backup()
      earlier.set(snapshot!.ref.random, engine.source())
      if (engine === victim) victims.push(snapshot!.ref.random)
    }
  clock.advance(60_000)
  const stolen: WriteKeys = { ...keys.write, writer: writers[0]! }
  const { structure } = stolen
  return {
    ...{ victim, other, earlier, victims, stolen, roster },
    ref: () => ({ session: random.bytes(16).toString('hex'), random: random.bytes(16).toString('hex') }),
    secrets: [
      structure.structureKey(1)!,
      ...[structure.treeIdKey, structure.idKey, structure.recordKey, stolen.chunkerKey, seeds[0]!],
      ...[stolen.contentPublicKey.subarray(0, 32), stolen.contentPublicKey.subarray(-32)],
    ],
  }
}

/** Reading with anything that was stolen in the place of a session's key. */
export function readKeysOf(stolen: WriteKeys, secret: (session: SessionEntry) => Buffer): ReadKeys {
  return { structure: stolen.structure, segmentKey: (session, segmentId) => segmentKeyOf(secret(session), segmentId) }
}

/** A copy of everything in one store, as its owner makes it. */
export async function copyStore(from: Engine, to: Store): Promise<void> {
  for (const name of from.bucket.names()) await to.put(name, { kind: 'bytes', bytes: from.bucket.content(name)! })
}

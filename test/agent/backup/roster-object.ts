// A roster as the domain's controller would store it, for tests with several writers.
import type { RootKeys } from '../../../agent/keys/domain.ts'
import type { Writer } from '../../../agent/keys/keys.ts'
import { rosterBody, rosterWriter } from '../../../agent/keys/roster.ts'
import { objectName } from '@holdfast/shared/format/layout.ts'
import { sealBox } from '../../../agent/repository/structure-box.ts'
import type { PutBody } from '@holdfast/shared/store/store.ts'

/** Name and body of an object that lists these writers as active. */
export function encodeRoster(keys: RootKeys, writers: readonly Writer[], now: number): [string, PutBody] {
  const body = rosterBody({
    number: 1,
    madeAt: now,
    entries: writers.map((writer, i) => ({
      writerId: writer.id,
      publicKey: writer.publicKey,
      fingerprint: Buffer.alloc(20, i),
      state: 'active',
      since: now,
      label: `agent ${i}`,
    })),
  })
  const object = sealBox({ type: 'roster', keys: keys.write.structure, writer: rosterWriter(keys.signing), body })
  return [objectName('roster', { session: '0'.repeat(32), random: '1'.repeat(32) }), { kind: 'bytes', bytes: object }]
}

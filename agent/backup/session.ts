// A run's session: the random key that seals its data, stored sealed to the content public key before anything else (design section 3, point 8),
// then forgotten with the run.
import type { Random } from '@holdfast/shared/random.ts'
import { encodeSessionEntry, sessionEntry } from '../keys/domain.ts'
import type { SessionEntry, WriteKeys } from '../keys/keys.ts'
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { sealBox } from '../repository/structure-box.ts'
import type { Store } from '@holdfast/shared/store/store.ts'

export type Session = { readonly id: string; readonly key: Buffer; readonly entry: SessionEntry; readonly startedAt: number }

export function newSession(keys: WriteKeys, random: Random, now: number): Session {
  const sessionId = random.bytes(16)
  const key = random.bytes(32)
  return { id: sessionId.toString('hex'), key, entry: sessionEntry(key, sessionId, keys, random), startedAt: now }
}

export async function storeSession(store: Store, session: Session, keys: WriteKeys, signal: AbortSignal): Promise<void> {
  const body = new ByteWriter().raw(encodeSessionEntry(session.entry)).raw(keys.writer.id).u64(session.startedAt).view()
  const object = sealBox({ type: 'session', keys: keys.structure, writer: keys.writer, body })
  await store.put(`sessions/${session.id}`, { kind: 'bytes', bytes: object }, { signal })
}

// What a person compares before a controller trusts an appliance: one fingerprint over both keys that the agent made at enrolment, the Ed25519
// key that signs what it stores and the X-Wing key that its domain bundle is sealed to. A server that swaps either one changes it.
import { createHash } from 'node:crypto'
import { shownFingerprint } from './base32.ts'
import { HoldfastError } from './errors.ts'

export const AGENT_FINGERPRINT_BYTES = 20
const CONTEXT = 'holdfast/1 agent'
const SIGNING_KEY_BYTES = 32
const ENROLMENT_KEY_BYTES = 1216

/** An agent's two public keys, raw: Ed25519 (32 bytes) and X-Wing (1216 bytes). */
export type AgentPublicKeys = { readonly publicKey: Uint8Array; readonly enrolmentKey: Uint8Array }

/**
 * The 20 bytes that stand in a roster (FORMAT.md section 9): the beginning of SHA-256("holdfast/1 agent" || Ed25519 key || X-Wing key). Both
 * lengths are fixed, so no other pair gives the same input. Throws `usage` for keys of other lengths.
 */
export function agentFingerprint({ publicKey, enrolmentKey }: AgentPublicKeys): Buffer {
  if (publicKey.length !== SIGNING_KEY_BYTES || enrolmentKey.length !== ENROLMENT_KEY_BYTES)
    throw new HoldfastError('usage', `An agent's keys have ${SIGNING_KEY_BYTES} and ${ENROLMENT_KEY_BYTES} bytes. Correct them.`)
  const hash = createHash('sha256').update(CONTEXT, 'ascii').update(publicKey).update(enrolmentKey)
  return hash.digest().subarray(0, AGENT_FINGERPRINT_BYTES)
}

/** The same as people see it, in eight groups of four. */
export function shownAgentFingerprint(keys: AgentPublicKeys): string {
  return shownFingerprint(agentFingerprint(keys))
}

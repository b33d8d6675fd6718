// What the controller gives an agent: grants and domain bundles, as plaintexts that are signed and sealed with the right keys.
import { bundleWriteKeys, domainFingerprint, makeBundle, openBundle } from '../../../agent/keys/bundle.ts'
import { agentWriter } from '../../../agent/keys/domain.ts'
import { type GrantExpectation, type GrantTerms, openGrant } from '../../../agent/keys/grant.ts'
import { verifyAndOpen } from '../../../agent/keys/signed-seal.ts'
import { ByteWriter } from '@holdfast/shared/format/bytes.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { entry, keyPair, keys, random, signedAndSealed, structure } from '../_support/fixture.ts'
import { accepted, judged, requireSame, type Target, violation } from '../_support/target.ts'

const bytes = seededRandom('grants')
const expect: GrantExpectation = {
  restoreId: `rst_${'1'.repeat(32)}`,
  agentId: `ag_${'2'.repeat(32)}`,
  snapshotId: '3'.repeat(32),
  selectionHash: 'whole',
  restoreRoot: 'desk',
  conflict: 'beside',
  now: Date.UTC(2026, 0, 1, 12),
}
const TERMS: GrantTerms = {
  v: 1,
  restoreId: expect.restoreId,
  agentId: expect.agentId,
  snapshotId: expect.snapshotId,
  root: '4'.repeat(64),
  selection: 'whole',
  restoreRoot: 'desk',
  conflict: 'beside',
  issuedAt: '2026-01-01T00:00:00.000Z',
  expiresAt: '2026-01-02T00:00:00.000Z',
}

function grantPlain(terms: object, sessions: number, segments: number): Buffer {
  const json = Buffer.from(JSON.stringify(terms))
  const out = new ByteWriter().u32(json.length).raw(json).u32(sessions)
  for (let n = 0; n < sessions; n++) out.raw(n === 0 ? entry.sessionId : bytes.bytes(16)).raw(bytes.bytes(32))
  out.u32(segments)
  for (let n = 0; n < segments; n++) out.raw(bytes.bytes(16)).raw(bytes.bytes(32))
  return out.finish()
}

export const grant: Target = {
  name: 'grant',
  about: 'a grant, signed and sealed: what opens is for this request alone, and opens nothing once it is forgotten',
  form: 'bytes',
  covers: ['agent/keys/grant.ts', 'agent/keys/key-table.ts', 'agent/keys/signed-seal.ts'],
  weight: 1,
  bytesMax: 4096,
  seeds: () => [grantPlain(TERMS, 2, 0), grantPlain(TERMS, 0, 3), grantPlain({ ...TERMS, selection: 'whole', restoreRoot: 'other' }, 1, 1)],
  run: (plain) => {
    const opened = accepted(() => openGrant({ object: signedAndSealed('grant', plain), keyPair, structure, expect }))
    if (opened === undefined) return 'refused'
    const { terms, readKeys, forget } = opened
    const isAsAsked =
      terms.restoreId === expect.restoreId &&
      terms.agentId === expect.agentId &&
      terms.snapshotId === expect.snapshotId &&
      terms.selection === expect.selectionHash &&
      terms.restoreRoot === expect.restoreRoot &&
      terms.conflict === expect.conflict &&
      Date.parse(terms.expiresAt) > expect.now
    if (!isAsAsked) violation('a grant for something else opens')
    const id = bytes.bytes(32)
    const outcome = judged(() => void readKeys.segmentKey(entry, id))
    forget()
    if (readKeys.segmentKey(entry, id) !== undefined) violation('a forgotten grant opens a segment')
    return outcome
  },
}

/** As it comes from the server: only the controller makes one that opens. */
export const sealedGrant: Target = {
  name: 'sealed-grant',
  about: 'a grant as the server relays it, changed on the way: never opens',
  form: 'bytes',
  covers: ['agent/keys/signed-seal.ts', 'agent/keys/xwing.ts'],
  weight: 1,
  bytesMax: 4096,
  seeds: () => [HONEST, HONEST.subarray(0, 200)],
  run: (object) =>
    judged(() => {
      const { plain } = openAny(object)
      if (!plain.equals(HONEST_PLAIN)) violation(`a grant of ${plain.length} bytes opens that the controller did not make`)
    }),
}
const HONEST_PLAIN = grantPlain(TERMS, 1, 1)
// Not the same in every process, since Node seals with randomness of its own.
const HONEST = signedAndSealed('grant', HONEST_PLAIN)
const openAny = (object: Buffer) =>
  verifyAndOpen({
    kind: 'grant',
    object,
    keyPair,
    bytesMax: 64 * 1024,
    accept: (_, key) => {
      if (!key.equals(structure.signPublicKey)) throw new HoldfastError('grant-refused', 'another signer')
    },
  })

const agent = agentWriter(bytes.bytes(32), Buffer.from('2'.repeat(32), 'hex'))
const fingerprint = domainFingerprint(structure.domainId, structure.signPublicKey)
const made = {
  keys,
  agentId: `ag_${'2'.repeat(32)}`,
  agentKey: agent.publicKey,
  repository: 's3:https://objects.example/backup',
  madeAt: 1_000,
}
const openMade = (object: Buffer) => openBundle({ object, enrolmentKeyPair: keyPair, expectedDomainFingerprint: fingerprint })

export const bundle: Target = {
  name: 'bundle',
  about: 'a domain bundle, signed and sealed: what opens has keys that can be used, and only those of its domain',
  form: 'json',
  covers: ['agent/keys/bundle.ts', 'agent/keys/signed-seal.ts'],
  weight: 1,
  bytesMax: 8192,
  seeds: () => {
    const object = makeBundle({ ...made, enrolmentPublicKey: keyPair.publicKey, random })
    const { plain } = verifyAndOpen({ kind: 'bundle', object, keyPair, bytesMax: 64 * 1024, accept: () => undefined })
    return [plain]
  },
  run: (plain) => {
    const opened = accepted(() => openMade(signedAndSealed('bundle', plain)))
    if (opened === undefined) return 'refused'
    const written = accepted(() => bundleWriteKeys(opened, agent))
    if (written === undefined) return 'refused'
    requireSame(written.structure.domainId, structure.domainId, 'the domain of a bundle')
    requireSame(written.structure.signPublicKey, structure.signPublicKey, 'the signing key of a bundle')
    if (!written.structure.structureKey(written.structure.structureEpoch)) violation('a bundle lacks the key of its own epoch')
    return 'taken'
  },
}

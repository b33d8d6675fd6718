// The smaller objects: description of the repository, session, roster, key object; as bodies that are sealed or signed with the right keys.
import { wrapRoot, type UnwrappedRoot, unwrapRoot, unlockRoot } from '../../../agent/keys/key-object.ts'
import { decodeSessionEntry, encodeSessionEntry } from '../../../agent/keys/domain.ts'
import { gcmSeal, hkdf } from '../../../agent/keys/primitives.ts'
import { signBody } from '@holdfast/shared/format/signed-body.ts'
import { printRecoveryCode } from '../../../agent/keys/recovery-code.ts'
import { latestRoster, parseRosterBody, acceptsWriter, type Roster, rosterBody } from '../../../agent/keys/roster.ts'
import { DEFAULT_CHUNKING, decodeDescription, encodeDescription } from '../../../agent/repository/repository.ts'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { entry, signing, structure } from '../_support/fixture.ts'
import { accepted, judged, requireSame, type Target, violation } from '../_support/target.ts'

const bytes = seededRandom('objects')

export const sessionObject: Target = {
  name: 'session-entry',
  about: 'a session entry: what is taken is written again as the same bytes',
  form: 'bytes',
  covers: ['agent/keys/domain.ts'],
  weight: 2,
  bytesMax: 2048,
  seeds: () => [encodeSessionEntry(entry)],
  run: (input) => judged(() => requireSame(input, encodeSessionEntry(decodeSessionEntry(input)), 'a session entry')),
}

const SIGNATURE_BYTES = 64

export const repositoryDescription: Target = {
  name: 'repository-object',
  about: 'the description of a repository, signed: what is taken is written again as the same bytes',
  form: 'bytes',
  covers: ['agent/repository/repository.ts'],
  weight: 1,
  bytesMax: 512,
  seeds: () =>
    ([DEFAULT_CHUNKING, { mode: 'fixed', min: 65_536, mean: 65_536, max: 65_536 }] as const).map((chunking, at) => {
      const { domainId, signPublicKey } = structure
      const object = encodeDescription({ domainId, chunking, enrolled: at === 0, createdAt: 1_000, signPublicKey }, signing)
      return object.subarray(0, object.length - SIGNATURE_BYTES)
    }),
  run: (input) => {
    const object = Buffer.concat([input, signBody(signing, 1, structure.domainId, input)])
    return judged(() => requireSame(object, encodeDescription(decodeDescription(object), signing), 'a description'))
  },
}

const ROSTER: Roster = {
  number: 7,
  madeAt: 1_700_000_000_000,
  entries: [1, 2, 3].map((n) => ({
    writerId: bytes.bytes(16),
    publicKey: bytes.bytes(32),
    fingerprint: bytes.bytes(20),
    state: n === 2 ? 'revoked' : 'active',
    since: 1_600_000_000_000 + n,
    label: ['', 'kiosk', 'Büro \ufeff'][n - 1]!,
  })),
}

export const roster: Target = {
  name: 'roster',
  about: 'the body of a roster: what is taken is written again as the same bytes, and lists nobody twice',
  form: 'bytes',
  covers: ['agent/keys/roster.ts', 'shared/format/bytes.ts'],
  weight: 4,
  bytesMax: 2048,
  seeds: () => [rosterBody(ROSTER), rosterBody({ ...ROSTER, entries: [] })],
  run: (body) => {
    const parsed = accepted(() => parseRosterBody({ body, writerKey: structure.signPublicKey }, structure, 'a roster'))
    if (parsed === undefined) return 'refused'
    requireSame(body, rosterBody(parsed), 'a roster')
    if (new Set(parsed.entries.map(({ publicKey }) => publicKey.toString('hex'))).size !== parsed.entries.length)
      violation('a key stands twice')
    if (latestRoster([ROSTER, parsed]) === undefined) violation('of two rosters none counts')
    for (const { publicKey, state, since } of parsed.entries)
      if (
        state === 'revoked' &&
        (acceptsWriter(parsed, structure.rootWriterKey, publicKey) || acceptsWriter(parsed, structure.rootWriterKey, publicKey, since))
      )
        violation('a revoked key counts')
    return 'taken'
  },
}

const CODE = bytes.bytes(20)
const SECRET = { recoveryCode: printRecoveryCode(CODE) }
/** Header, derivation, salt and nonce. */
const CLEAR_BYTES = 32 + 13 + 16 + 12
const SALT_AT = 45

/** The clear part, and what is in the seal: sealed with the key that the recovery code gives for the salt in it. */
function keyObjectOf(input: Buffer): Buffer {
  if (input.length < CLEAR_BYTES) return input
  const clear = input.subarray(0, CLEAR_BYTES)
  const key = hkdf(CODE, clear.subarray(SALT_AT, SALT_AT + 16), 'holdfast/1 recovery code')
  return Buffer.concat([clear, gcmSeal(key, clear, input.subarray(CLEAR_BYTES), clear.subarray(SALT_AT + 16))])
}

const goodObject = await wrapRoot({
  root: bytes.bytes(32),
  domainId: structure.domainId,
  secret: SECRET,
  label: 'good',
  createdAt: 1_000,
  random: seededRandom('wrapping'),
})

export const keyObject: Target = {
  name: 'key-object',
  about:
    'a key object, sealed to a recovery code: what opens is written again as the same bytes, and a bad one keeps no other from opening',
  form: 'bytes',
  covers: ['agent/keys/key-object.ts', 'shared/format/layout.ts'],
  weight: 2,
  bytesMax: 512,
  seeds: () => {
    const clear = goodObject.subarray(0, CLEAR_BYTES)
    const plain = Buffer.concat([bytes.bytes(32), Buffer.from('0010a5d4e8000000', 'hex'), Buffer.of(3), Buffer.from('key')])
    const passphrase = Buffer.from(clear)
    passphrase[32] = 1
    passphrase.writeUInt32LE(65_536, 33)
    passphrase.writeUInt32LE(3, 37)
    passphrase.writeUInt32LE(4, 41)
    return [Buffer.concat([clear, plain]), Buffer.concat([passphrase, plain])]
  },
  run: async (input) => {
    const object = keyObjectOf(input)
    let opened: UnwrappedRoot | undefined
    try {
      opened = await unwrapRoot(object, SECRET, 'a key object')
    } catch (error) {
      if (!isHoldfastError(error)) throw error
    }
    if (opened !== undefined) {
      const given = [input.subarray(SALT_AT, SALT_AT + 16), input.subarray(SALT_AT + 16, CLEAR_BYTES)]
      const again = await wrapRoot({ ...opened, secret: SECRET, random: { bytes: () => Buffer.from(given.shift()!) } })
      requireSame(object, again, 'a key object')
    }
    // Beside a good one, whatever it is.
    const unlocked = await unlockRoot(
      [
        { name: 'bad', bytes: object },
        { name: 'good', bytes: goodObject },
      ],
      SECRET,
    )
    if (opened === undefined && unlocked.keyName !== 'good') violation('a key object that does not open was opened')
    return opened === undefined ? 'refused' : 'taken'
  },
}

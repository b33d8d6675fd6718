// The domain bundle: what the controller gives an appliance so that it can write and not read (FORMAT.md section 9).
// Promise: a bundle opens only for the enrolment key it was made for, and only when the domain is the one whose fingerprint was compared.
import { z } from 'zod'
import { keyFingerprint } from '@holdfast/shared/base32.ts'
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { BUNDLE_BYTES_MAX } from '@holdfast/shared/protocol/agent.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { RootKeys } from './domain.ts'
import type { StructureKeys, WriteKeys, Writer } from './keys.ts'
import { parseJson, signAndSeal, verifyAndOpen } from './signed-seal.ts'
import { XWING_PUBLIC_KEY_LENGTH } from './xwing.ts'
import type { XWingKeyPair } from './xwing.ts'

const epoch = z
  .int()
  .min(1)
  .max(2 ** 32 - 1)

const base64url = (bytes: Buffer): string => bytes.toString('base64url')

/** Bytes of one length in the one base64url form they have. */
const key = (length: number) =>
  c
    .bytes(length)
    .refine((text) => base64url(Buffer.from(text, 'base64url')) === text)
    .transform((text) => Buffer.from(text, 'base64url'))

// Strict: a member that this version does not know could change what the others mean.
const bundleJson = z.strictObject({
  v: z.literal(1),
  agentId: c.agentId,
  agentKey: key(32),
  contentEpoch: epoch,
  contentPublicKey: key(XWING_PUBLIC_KEY_LENGTH),
  structureEpoch: epoch,
  structureKey: key(32),
  treeIdKey: key(32),
  idKey: key(32),
  chunkerKey: key(32),
  recordKey: key(32),
  signPublicKey: key(32),
  rootWriterKey: key(32),
  repository: c.text(2048),
  madeAt: c.time,
})

/** An opened bundle. `agentKey` is the Ed25519 key of the agent it was made for, `repository` where its data goes. */
export type Bundle = Readonly<z.infer<typeof bundleJson>> & { readonly domainId: Buffer }

/** What a person compares before trusting a domain: a fingerprint over domain id and domain signing key, as `keyFingerprint` shows it. */
export function domainFingerprint(domainId: Buffer, signPublicKey: Buffer): string {
  return keyFingerprint(Buffer.concat([domainId, signPublicKey]))
}

/** True where two fingerprints are the same, however they were typed. */
export function isSameFingerprint(a: string, b: string): boolean {
  return withoutGroups(a) === withoutGroups(b)
}

function withoutGroups(fingerprint: string): string {
  return fingerprint.toLowerCase().replace(/[\s-]/g, '')
}

/** The 16-byte writer id of an agent: the hex digits of its `ag_…` identifier. */
export function writerIdOf(agentId: string): Buffer {
  if (!c.agentId.safeParse(agentId).success) throw new HoldfastError('usage', 'An agent’s id is ag_ and 32 hex digits. Correct it.')
  return Buffer.from(agentId.slice(3), 'hex')
}

/** A bundle for one agent, sealed to its enrolment public key (1216 bytes). `madeAt` in milliseconds since 1970. */
export function makeBundle(input: {
  keys: RootKeys
  agentId: string
  agentKey: Buffer
  enrolmentPublicKey: Buffer
  repository: string
  madeAt: number
  random: Random
}): Buffer {
  const { keys, agentId, agentKey, enrolmentPublicKey, repository, madeAt, random } = input
  const { structure, chunkerKey, contentEpoch, contentPublicKey } = keys.write
  const structureKey = structure.structureKey(structure.structureEpoch)
  if (structureKey === undefined) throw new HoldfastError('wrong-key', 'The structure key of the current epoch is not at hand.')
  const json = {
    v: 1,
    agentId,
    agentKey: base64url(agentKey),
    contentEpoch,
    contentPublicKey: base64url(contentPublicKey),
    structureEpoch: structure.structureEpoch,
    structureKey: base64url(structureKey),
    treeIdKey: base64url(structure.treeIdKey),
    idKey: base64url(structure.idKey),
    chunkerKey: base64url(chunkerKey),
    recordKey: base64url(structure.recordKey),
    signPublicKey: base64url(structure.signPublicKey),
    rootWriterKey: base64url(structure.rootWriterKey),
    repository,
    madeAt: isoTime(madeAt),
  }
  const checked = bundleJson.safeParse(json)
  if (!checked.success) {
    throw new HoldfastError('usage', `This bundle cannot be made: ${fieldsOf(checked.error)} is not as it must be. Correct it.`)
  }
  const plain = Buffer.from(JSON.stringify(json), 'utf8')
  const { domainId } = structure
  return signAndSeal({ kind: 'bundle', domainId, signing: keys.signing, recipient: enrolmentPublicKey, plain, random })
}

/**
 * Opens a bundle for the holder of the enrolment key pair. Throws `wrong-key` where the domain is not the expected one or the bundle was made
 * for another agent's enrolment key, `damaged` where it was changed, `newer-format`.
 */
export function openBundle(input: { object: Buffer; enrolmentKeyPair: XWingKeyPair; expectedDomainFingerprint: string }): Bundle {
  const { object, enrolmentKeyPair, expectedDomainFingerprint } = input
  const accept = (domainId: Buffer, signPublicKey: Buffer): void => {
    const found = domainFingerprint(domainId, signPublicKey)
    if (!isSameFingerprint(found, expectedDomainFingerprint)) {
      throw new HoldfastError(
        'wrong-key',
        `This bundle is of domain ${found}, not of the expected one. Compare the fingerprint with the controller before you enrol again.`,
      )
    }
  }
  const opened = verifyAndOpen({ kind: 'bundle', object, keyPair: enrolmentKeyPair, bytesMax: BUNDLE_BYTES_MAX, accept })
  const parsed = bundleJson.safeParse(parseJson(opened.plain, 'this bundle'))
  if (!parsed.success) throw new HoldfastError('damaged', `this bundle is damaged: ${fieldsOf(parsed.error)} is not as it must be`)
  if (!parsed.data.signPublicKey.equals(opened.signPublicKey)) {
    throw new HoldfastError('damaged', 'this bundle is damaged: it names another domain signing key than the one that signed it')
  }
  return { ...parsed.data, domainId: opened.domainId }
}

/** The keys of a bundle in the hands of the agent it was made for. Throws `wrong-key` where `writer` is another. */
export function bundleWriteKeys(bundle: Bundle, writer: Writer): WriteKeys {
  if (!writer.publicKey.equals(bundle.agentKey) || !writer.id.equals(writerIdOf(bundle.agentId))) {
    throw new HoldfastError('wrong-key', 'This domain bundle was made for another agent. Ask the controller for one for this agent.')
  }
  const { domainId, structureEpoch, structureKey, treeIdKey, idKey, recordKey, signPublicKey, rootWriterKey } = bundle
  const structure: StructureKeys = {
    domainId,
    structureEpoch,
    structureKey: (epoch) => (epoch === structureEpoch ? structureKey : undefined),
    treeIdKey,
    idKey,
    recordKey,
    signPublicKey,
    rootWriterKey,
  }
  const { chunkerKey, contentEpoch, contentPublicKey } = bundle
  return { structure, chunkerKey, contentEpoch, contentPublicKey, writer }
}

/** The members that a schema refused; never their values. */
function fieldsOf(error: z.ZodError): string {
  const names = error.issues.map((issue) => (issue.path.length > 0 ? issue.path.join('.') : 'its form'))
  return [...new Set(names)].slice(0, 4).join(', ')
}

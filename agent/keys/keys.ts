// The keys of design section 4 as separate types, so that a function's type says what it can do. Only ReadKeys opens what another run
// sealed; `backup` takes WriteKeys, also where the root is at hand (one code path). Made by domain.ts from the root or from a bundle.

/** What every member of a domain holds: enough to see the structure, not the content. All keys are 32 bytes. */
export type StructureKeys = {
  readonly domainId: Buffer
  /** The structure key of an epoch, or undefined where this holder was not given it. */
  readonly structureKey: (epoch: number) => Buffer | undefined
  readonly structureEpoch: number
  readonly treeIdKey: Buffer
  readonly idKey: Buffer
  readonly recordKey: Buffer
  /** Ed25519, raw 32 bytes: signs repository description, rosters, bundles and grants. */
  readonly signPublicKey: Buffer
  /** Ed25519, raw 32 bytes: the writer that stands for the root itself. */
  readonly rootWriterKey: Buffer
}

/** Signs what a writer stores: an agent's own key, or the root writer key in a single-user repository. */
export type Writer = {
  /** 16 bytes; all zero for the root writer. */
  readonly id: Buffer
  /** Ed25519, raw 32 bytes. */
  readonly publicKey: Buffer
  readonly sign: (message: Uint8Array) => Buffer
}

export type WriteKeys = {
  readonly structure: StructureKeys
  readonly chunkerKey: Buffer
  readonly contentEpoch: number
  /** X-Wing, raw 1216 bytes. */
  readonly contentPublicKey: Buffer
  readonly writer: Writer
}

/** A session key as it is stored: sealed, with a commitment. FORMAT.md section 5. */
export type SessionEntry = {
  readonly sessionId: Buffer
  readonly contentEpoch: number
  readonly sealedKey: Buffer
  readonly commitment: Buffer
}

/** Opens content. From the root it opens any session; from a grant only what the grant names. */
export type ReadKeys = {
  readonly structure: StructureKeys
  /**
   * The key of one segment (FORMAT.md section 6), or undefined where these keys do not reach it (a grant for something else).
   * Throws `damaged` where the session's commitment does not match, `wrong-key` where the sealed key cannot be opened.
   */
  readonly segmentKey: (session: SessionEntry, segmentId: Buffer) => Buffer | undefined
}

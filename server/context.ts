// What every route and job is given, explicitly: the seams, the keys and the configuration of one server.
import type { FastifyBaseLogger, FastifyInstance, RawReplyDefaultExpression, RawRequestDefaultExpression, RawServerDefault } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import type { Clock } from '@holdfast/shared/clock.ts'
import type { Log } from '@holdfast/shared/log.ts'
import type { Random } from '@holdfast/shared/random.ts'
import type { OpenDeletingStore } from './deletions/store-access.ts'
import type { ServerKeys } from './keys.ts'
import type { Access, Principal } from './principal.ts'
import type { Queue } from './queue.ts'
import type { Records } from './records/records.ts'
import type { Waker } from './waker.ts'

export type ServerSettings = {
  /** Who runs this server, as records name it: `prc_...`, made at init. */
  readonly processorId: string
  /** True where people reach the server over TLS, its own or a proxy's: cookies are Secure then. */
  readonly secure: boolean
  /** How long a restore may wait for people and agents. */
  readonly restoreTtlMs: number
  /** A policy is overdue this long after it was due. */
  readonly graceMs: number
  /** An agent is silent after this long without a poll. */
  readonly silentMs: number
  /** What was condemned can be taken back this long: nothing younger is deleted. */
  readonly undeleteMs: number
  /** How often stores are looked into for lists of what is to be deleted. */
  readonly deletionsEveryMs: number
}

export type Deps = {
  readonly records: Records
  readonly queue: Queue
  readonly clock: Clock
  readonly random: Random
  readonly keys: ServerKeys
  readonly config: ServerSettings
  readonly log: Log
  readonly openStore: OpenDeletingStore
}
export type Context = Deps & { readonly waker: Waker }

export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  ZodTypeProvider
>

declare module 'fastify' {
  interface FastifyRequest {
    principal: Principal | undefined
    /** The body's bytes as they came, for signatures and hashes. */
    rawBody: Buffer
    /** The nonce of an agent's request: what the answer is signed for. */
    agentNonce: string | undefined
  }
  interface FastifyContextConfig {
    /** Every route names what it needs; one that does not is refused when the server is built. */
    access?: Access
  }
}

// Enrolment, in its two halves: the one-time code pins the server's key at the agent, and the controller's domain bundle, sealed to this
// agent's enrolment key, is accepted only for the domain whose fingerprint a person gave. A hostile server can substitute neither.
import { shownAgentFingerprint } from '@holdfast/shared/agent-fingerprint.ts'
import { isoTime, type Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError, printable } from '@holdfast/shared/errors.ts'
import { BUNDLE_BYTES_MAX, enrollReply, type EnrollReply } from '@holdfast/shared/protocol/agent.ts'
import { problem } from '@holdfast/shared/protocol/common.ts'
import { HEADER, NEW_AGENT, parseEnrolmentCode, pinMatches, signRequest, verifyResponse } from '@holdfast/shared/protocol/signatures.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { signingKey } from '@holdfast/shared/signing.ts'
import { domainFingerprint, isSameFingerprint } from '../keys/bundle.ts'
import type { WriteKeys } from '../keys/keys.ts'
import { xwingKeyPair } from '../keys/xwing.ts'
import type { AgentConfig } from './agent-config.ts'
import { agentOf, loadAgent, openAgentBundle, saveBundle, type Agent, type AgentState } from './agent-state.ts'
import { parseServerUrl, type HttpReply, type Transport } from './http-transport.ts'
import { AGENT_ROUTES } from './routes.ts'
import { parseReply, sendWithin, type ServerClient } from './server-client.ts'

const ENROLL_TIMEOUT_MS = 60_000
const BUNDLE_WAIT_MS = 5_000

export type EnrollOptions = {
  readonly state: AgentState
  readonly config: AgentConfig
  /** As a person typed it. */
  readonly code: string
  readonly serverUrl: string
  readonly serverCaFile?: string | undefined
  readonly agentVersion: string
  readonly transport: Transport
  readonly clock: Clock
  readonly random: Random
  readonly signal?: AbortSignal | undefined
}

export type Enrolled = {
  readonly agent: Agent
  /** Of both of the agent's keys: to be carried to the controller, who compares it before the bundle is sealed. */
  readonly fingerprint: string
}

/**
 * The first half. Makes the agent's keys, proves that it holds them, and keeps what the server answered once its key is the one that the code
 * pins. Rejects with `already-exists` where this appliance is enrolled, `usage` for a code that is none, `forbidden` for one that is used or
 * expired, `server-untrusted` where another server answers.
 */
export async function enroll(options: EnrollOptions): Promise<Enrolled> {
  const { state, config, clock, random } = options
  const { secret, pin } = parseEnrolmentCode(options.code)
  const url = parseServerUrl(options.serverUrl)
  if (state.identity.load() !== undefined)
    throw new HoldfastError('already-exists', 'this appliance is enrolled already; use another state directory, or remove this one first')
  const seed = random.bytes(32)
  const enrolmentSeed = random.bytes(32)
  const key = signingKey(seed)
  const body = Buffer.from(
    JSON.stringify({
      secret,
      publicKey: key.publicKey.toString('base64url'),
      enrolmentKey: xwingKeyPair(enrolmentSeed).publicKey.toString('base64url'),
      host: config.host,
      agentVersion: options.agentVersion,
      sources: Object.keys(config.sources).sort(),
      restoreRoots: Object.keys(config.restoreRoots).sort(),
    }),
  )
  const { method, path } = AGENT_ROUTES.enroll
  const signed = signRequest(key, NEW_AGENT, random, { method, path, timeMs: clock.now(), body })
  const reply = await sendWithin(options.transport, clock, ENROLL_TIMEOUT_MS, options.signal, {
    method,
    path,
    headers: { ...signed.headers, 'content-type': 'application/json', accept: 'application/json' },
    body,
    limitBytes: 64 * 1024,
  })
  const answer = readEnrollReply(reply, signed.nonce, pin)
  const identity = {
    v: 1 as const,
    agentId: answer.agentId,
    controllerId: answer.controllerId,
    siteId: answer.siteId,
    processorId: answer.processorId,
    region: answer.region,
    host: config.host,
    seed: seed.toString('base64url'),
    enrolmentSeed: enrolmentSeed.toString('base64url'),
    serverUrl: url.origin,
    ...(options.serverCaFile === undefined ? {} : { serverCaFile: options.serverCaFile }),
    serverPublicKey: answer.serverPublicKey,
    enrolledAt: isoTime(clock.now()),
  }
  state.identity.save(identity)
  const agent = agentOf(identity)
  return { agent, fingerprint: agentFingerprintOf(agent) }
}

/** What this appliance shows of its two keys, the signing key and the enrolment key. */
export function agentFingerprintOf(agent: Agent): string {
  return shownAgentFingerprint({ publicKey: agent.key.publicKey, enrolmentKey: agent.enrolmentKeyPair.publicKey })
}

function readEnrollReply(reply: HttpReply, nonce: string, pin: string): EnrollReply {
  if (reply.status !== 200 && reply.status !== 201) throw refused(reply)
  const answer = parseReply(enrollReply, reply.body, AGENT_ROUTES.enroll.path)
  const serverKey = Buffer.from(answer.serverPublicKey, 'base64url')
  const signature = reply.headers[HEADER.serverSignature]
  const isPinned = pinMatches(pin, serverKey)
  if (!isPinned || !verifyResponse(serverKey, { status: reply.status, requestNonce: nonce, body: reply.body, signature }))
    throw new HoldfastError(
      'server-untrusted',
      'another server answered than the one that made this code; nothing was kept. Check the address, and ask for a fresh code',
    )
  return answer
}

/** A refusal cannot be checked yet (the reply names no key), so its words are shown and nothing follows from them. */
function refused(reply: HttpReply): HoldfastError {
  let detail = `status ${reply.status}`
  try {
    const parsed = problem.safeParse(JSON.parse(reply.body.toString('utf8')))
    if (parsed.success) detail = printable(parsed.data.detail).slice(0, 300)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  if (reply.status >= 500)
    return new HoldfastError('server-unreachable', `the server could not enrol this appliance (${detail}); try again`)
  return new HoldfastError(
    'forbidden',
    `the server did not take this code (${detail}); a code is good once and for a short time: ask for a fresh one`,
  )
}

export type CollectOptions = {
  readonly state: AgentState
  readonly client: ServerClient
  readonly clock: Clock
  /** What the controller gave the person, as `--domain`. */
  readonly domain?: string | undefined
  /** Asked with the fingerprint that came, where none was given; true accepts it. */
  readonly confirm?: ((fingerprint: string) => Promise<boolean>) | undefined
  /** Told with the opened keys before anything is kept; throws to refuse, such as for a store that lets itself be overwritten. */
  readonly examine?: ((found: { keys: WriteKeys; repository: string }) => Promise<void>) | undefined
  /** Waits until the controller sent the bundle; otherwise `not-found` where it is not there yet. */
  readonly wait: boolean
  readonly signal?: AbortSignal | undefined
}

/**
 * The second half: fetches the bundle, checks its domain against what the person knows, and keeps it. Rejects with `policy` where nobody said
 * which domain is right, `wrong-key` where the bundle is of another or for another agent.
 */
export async function collectBundle(options: CollectOptions): Promise<{ fingerprint: string; keys: WriteKeys; repository: string }> {
  const { state } = options
  const agent = loadAgent(state)
  const object = await fetchBundle(options)
  const found = fingerprintOf(object)
  const expected = options.domain ?? agent.domainFingerprint
  if (expected === undefined) {
    if (options.confirm === undefined)
      throw new HoldfastError(
        'policy',
        `say which domain is right: give --domain with the fingerprint that the controller shows (a bundle of ${found} came)`,
      )
    if (!(await options.confirm(found))) throw new HoldfastError('policy', `the domain ${found} was not confirmed; its bundle was not kept`)
  } else if (!isSameFingerprint(expected, found))
    throw new HoldfastError(
      'wrong-key',
      `a bundle of domain ${found} came, not of ${printable(expected)}; it was not kept. Ask the controller`,
    )
  const { bundle, keys } = openAgentBundle(agent, object, found)
  await options.examine?.({ keys, repository: bundle.repository })
  saveBundle(state, object)
  const kept = state.identity.load()
  if (kept !== undefined) state.identity.save({ ...kept, domainFingerprint: found })
  return { fingerprint: found, keys, repository: bundle.repository }
}

async function fetchBundle({ client, clock, wait, signal }: CollectOptions): Promise<Buffer> {
  for (;;) {
    try {
      return await client.fetch({ ...AGENT_ROUTES.bundle, limitBytes: BUNDLE_BYTES_MAX, signal, attempts: wait ? 1000 : 3 })
    } catch (error) {
      if (!isHoldfastError(error, 'not-found')) throw error
      if (!wait)
        throw new HoldfastError('not-found', 'the controller has not sent the domain bundle yet; run this again when it has', {
          cause: error,
        })
    }
    await clock.sleep(BUNDLE_WAIT_MS, signal)
  }
}

/** The fingerprint of the domain that a bundle says it is of (FORMAT.md sections 2 and 9); `openBundle` checks that this is so. */
function fingerprintOf(object: Buffer): string {
  if (object.length < 64) throw new HoldfastError('damaged', 'the domain bundle is cut short; ask the controller to send it again')
  return domainFingerprint(object.subarray(16, 32), object.subarray(32, 64))
}

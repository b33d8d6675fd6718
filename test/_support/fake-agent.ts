// An agent for tests of the server: real keys, real signatures, a real journal chain in memory, and every answer's signature checked.
// It talks through any transport: the application itself, or HTTP.
import { makeSigningKey } from '@holdfast/shared/signing.ts'
import type { SigningKey } from '@holdfast/shared/signing.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import type { EnrollReply, PollReply, PollRequest } from '@holdfast/shared/protocol/agent.ts'
import { RECORDS_CONTENT_TYPE } from '@holdfast/shared/protocol/records.ts'
import type { RecordHeader } from '@holdfast/shared/protocol/records.ts'
import {
  HEADER,
  parseEnrolmentCode,
  pinMatches,
  restoreKeyBytes,
  signRequest,
  verifyResponse,
} from '@holdfast/shared/protocol/signatures.ts'
import { encodeFileRecords, encodeFrame, filesRoot, FIRST_PREVIOUS, signRecord } from '@holdfast/shared/record.ts'
import type { FileRecord, RecordFrame } from '@holdfast/shared/record.ts'
import { isoTime } from '@holdfast/shared/clock.ts'

export type Reply = { readonly status: number; readonly headers: Record<string, unknown>; readonly body: Buffer }
export type Transport = (request: { method: string; path: string; headers: Record<string, string>; body: Buffer }) => Promise<Reply>

/** What of a fastify application the transport needs. */
type Injectable = {
  inject(options: {
    method: 'GET'
    url: string
    headers: Record<string, string>
    payload?: Buffer
  }): Promise<{ statusCode: number; headers: object; rawPayload: Buffer }>
}

/** A transport straight into the application. */
export function injectTransport(app: Injectable): Transport {
  return async ({ method, path, headers, body }) => {
    const reply = await app.inject({ method: method as 'GET', url: path, headers, ...(body.length > 0 ? { payload: body } : {}) })
    return { status: reply.statusCode, headers: reply.headers as Record<string, unknown>, body: reply.rawPayload }
  }
}

/** A transport over HTTP to a listening server. */
export function httpTransport(base: string): Transport {
  return async ({ method, path, headers, body }) => {
    const reply = await fetch(base + path, { method, headers, ...(body.length > 0 ? { body: Uint8Array.from(body) } : {}) })
    return { status: reply.status, headers: Object.fromEntries(reply.headers), body: Buffer.from(await reply.arrayBuffer()) }
  }
}

export class FakeAgent {
  readonly key: SigningKey
  readonly enrolmentKey: Buffer
  readonly random: Random
  readonly now: () => number
  readonly sources: string[] = ['documents']
  readonly restoreRoots: string[] = ['restored']
  transport: Transport
  enrolled: EnrollReply | undefined
  seq = 0
  prev: Buffer = FIRST_PREVIOUS
  recordedThrough = 0
  policiesVersion = 0
  bundleVersion = 0
  rosterVersion = 0

  constructor(options: { transport: Transport; now: () => number; random?: Random }) {
    this.transport = options.transport
    this.now = options.now
    this.random = options.random ?? systemRandom
    this.key = makeSigningKey(this.random)
    this.enrolmentKey = this.random.bytes(1216)
  }

  get id(): string {
    return this.enrolled?.agentId ?? 'new'
  }

  /** One signed request; the answer's signature must hold. */
  async request(method: string, path: string, body?: unknown, contentType = 'application/json'): Promise<Reply & { json(): unknown }> {
    const bytes = body === undefined ? Buffer.alloc(0) : Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body))
    const { headers, nonce } = signRequest(this.key, this.id, this.random, { method, path, timeMs: this.now(), body: bytes })
    const reply = await this.transport({
      method,
      path,
      headers: { ...headers, ...(bytes.length > 0 ? { 'content-type': contentType } : {}) },
      body: bytes,
    })
    const signature = reply.headers[HEADER.serverSignature]
    const serverKey = this.enrolled?.serverPublicKey
    if (serverKey !== undefined) {
      const answer = {
        status: reply.status,
        requestNonce: nonce,
        body: reply.body,
        signature: typeof signature === 'string' ? signature : undefined,
      }
      if (!verifyResponse(Buffer.from(serverKey, 'base64url'), answer))
        throw new Error(`the answer ${reply.status} to ${method} ${path} is not signed by the server`)
    }
    return { ...reply, json: () => JSON.parse(reply.body.toString('utf8')) as unknown }
  }

  async enroll(code: string): Promise<Reply & { json(): unknown }> {
    const { secret, pin } = parseEnrolmentCode(code)
    const reply = await this.request('POST', '/v1/agent/enroll', {
      secret,
      publicKey: this.key.publicKey.toString('base64url'),
      enrolmentKey: this.enrolmentKey.toString('base64url'),
      host: 'appliance-1',
      agentVersion: '0.1.0',
      sources: this.sources,
      restoreRoots: this.restoreRoots,
    })
    if (reply.status === 201) {
      this.enrolled = reply.json() as EnrollReply
      if (!pinMatches(pin, Buffer.from(this.enrolled.serverPublicKey, 'base64url'))) throw new Error('the code pins another server')
    }
    return reply
  }

  pollBody(changes: Partial<PollRequest> = {}): PollRequest {
    return {
      agentVersion: '0.1.0',
      sources: this.sources,
      restoreRoots: this.restoreRoots,
      policiesVersion: this.policiesVersion,
      bundleVersion: this.bundleVersion,
      rosterVersion: this.rosterVersion,
      journal: { pending: 0, bytes: 0, limitBytes: 64 * 1024 * 1024 },
      recordedThrough: this.recordedThrough,
      acknowledged: [],
      waitSeconds: 0,
      ...changes,
    }
  }

  /** A poll that must be answered with 200; takes note of the versions that it tells. */
  async poll(changes: Partial<PollRequest> = {}): Promise<PollReply> {
    const reply = await this.request('POST', '/v1/agent/poll', this.pollBody(changes))
    if (reply.status !== 200) throw new Error(`poll answered ${reply.status}: ${reply.body.toString('utf8')}`)
    const news = reply.json() as PollReply
    this.recordedThrough = news.recordedThrough
    this.policiesVersion = news.policiesVersion
    this.bundleVersion = news.bundleVersion
    this.rosterVersion = news.rosterVersion
    return news
  }

  /** What every record of this agent says. */
  common(instructionId: string | null = null) {
    if (this.enrolled === undefined) throw new Error('enroll first')
    const { agentId, controllerId, processorId } = this.enrolled
    return { v: 1, agentId, controllerId, processorId, actor: 'agent', instructionId, purpose: 'backup', at: isoTime(this.now()) } as const
  }

  /** Appends one entry to the chain and gives its frame. */
  journal(header: RecordHeader, body: Buffer = Buffer.alloc(0), secret: Buffer = this.random.bytes(32)): RecordFrame {
    const record = signRecord({ header, body, seq: this.seq + 1, prev: this.prev, secret, key: this.key })
    this.seq = record.seq
    this.prev = record.hash
    return record
  }

  /** The records of one backup run: its start, one batch of files, its end. */
  backupRun(options: {
    storeId: string
    policyId?: string
    instructionId?: string
    files?: FileRecord[]
    snapshotId?: string
    series?: string
  }): RecordFrame[] {
    const { storeId, policyId, files = [] } = options
    const ends = { from: { region: this.enrolled!.region }, to: { region: 'CA-ON', storeId, country: 'CA' } }
    const run = {
      ...this.common(options.instructionId ?? null),
      ...ends,
      runId: makeId(this.random, 'run'),
      source: 'documents',
      ...(policyId === undefined ? {} : { policyId }),
      ...(options.series === undefined ? {} : { series: options.series }),
    }
    const body = encodeFileRecords(files)
    const secret = this.random.bytes(32)
    const bytes = files.reduce((sum, file) => sum + file.size, 0)
    const totals = {
      files: files.length,
      bytes,
      newBytes: bytes,
      reusedBytes: 0,
      storedBytes: bytes,
      unchanged: 0,
      failed: 0,
      changed: 0,
      skipped: 0,
    }
    return [
      this.journal({ ...run, kind: 'run-started' }),
      this.journal(
        {
          ...run,
          kind: 'transmission',
          files: { count: files.length, bytes, new: bytes, reused: 0, failed: 0 },
          filesRoot: filesRoot(secret, body).toString('hex'),
          outcome: 'ok',
        },
        body,
        secret,
      ),
      this.journal({
        ...run,
        kind: 'run-ended',
        outcome: 'ok',
        totals,
        ...(options.snapshotId === undefined ? {} : { snapshotId: options.snapshotId }),
      }),
    ]
  }

  deliver(frames: readonly RecordFrame[]): Promise<Reply & { json(): unknown }> {
    return this.request('POST', '/v1/agent/records', Buffer.concat(frames.map(encodeFrame)), RECORDS_CONTENT_TYPE)
  }

  /** The key of a restore, as the agent makes one for each request. */
  putRestoreKey(restoreId: string, publicKey = this.random.bytes(1216)): Promise<Reply & { json(): unknown }> {
    return this.request('PUT', `/v1/agent/restores/${restoreId}/key`, {
      publicKey: publicKey.toString('base64url'),
      signature: this.key.sign(restoreKeyBytes(restoreId, publicKey)).toString('base64url'),
    })
  }
}

/** A file record of a transmission. */
export function fileRecord(token: Buffer, size = 1024, time = 1_800_000_000_000): FileRecord {
  return { kind: 'transmission', outcome: 'ok', code: 0, token, size, bytesNew: size, time }
}

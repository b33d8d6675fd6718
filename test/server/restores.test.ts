// Restore requests from asking to the end: idempotent, tokens only, granted by the controller alone, fenced by leases (O6, O14).
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { advanceRestore } from 'holdfast-server/jobs.ts'
import { verifySignature } from '@holdfast/shared/signing.ts'
import { commandBytes } from '@holdfast/shared/protocol/signatures.ts'
import type { SignedCommand } from '@holdfast/shared/protocol/commands.ts'
import { signedCommand } from '@holdfast/shared/protocol/commands.ts'
import { startTestServer } from '../_support/test-server.ts'
import type { TestServer } from '../_support/test-server.ts'

let server: TestServer
let administrator: string
let one: Awaited<ReturnType<TestServer['makeControllerWithAgent']>>
const snapshotId = '5'.repeat(32)
const series = '6'.repeat(64)
const totals = { files: 1, bytes: 1, newBytes: 1, reusedBytes: 0, storedBytes: 0, unchanged: 0, failed: 0, changed: 0, skipped: 0 }

beforeEach(async () => {
  server = await startTestServer()
  administrator = await server.makeUser('administrator')
  one = await server.makeControllerWithAgent(administrator)
  await one.agent.poll()
  const report = {
    snapshotId,
    runId: `run_${'1'.repeat(32)}`,
    storeId: one.storeId,
    series,
    source: 'documents',
    at: '2027-01-01T00:00:00.000Z',
    files: 1,
    bytes: 1,
    storedBytes: 1,
    tags: [],
  }
  expect((await one.agent.request('POST', '/v1/agent/snapshots', report)).status).toBe(200)
})
afterEach(() => server.close())

describe('a restore', () => {
  it('goes from the request through key, grant and lease to its end', async () => {
    const made = await ask()
    expect(made.status).toBe(201)
    const id = made.json().id
    expect(made.json()).toMatchObject({ state: 'requested', requestedBy: expect.stringMatching(/^token:tok_/) as string })
    await server.queue.drain(server.context)

    const prepare = await takeCommand('prepare-restore')
    expect(prepare.command.body).toMatchObject({
      restoreId: id,
      snapshot: { snapshotId },
      selection: { whole: true },
      restoreRoot: 'restored',
      storeId: one.storeId,
    })
    expect((await one.agent.putRestoreKey(id)).status).toBe(200)
    const waiting = await server.call('GET', '/v1/restores?state=awaiting_grant', one.token)
    expect(waiting.json()['items']).toMatchObject([
      { id, key: { publicKey: expect.any(String) as string }, waitingFor: expect.stringContaining('key holder') as string },
    ])

    expect((await one.agent.request('GET', `/v1/agent/restores/${id}/grant`)).status).toBe(403)
    const grant = Buffer.from([0, 255, 1, 2])
    expect((await server.call('PUT', `/v1/restores/${id}/grant`, one.token, grant)).json()['state']).toBe('granted')

    const { command } = await takeCommand('restore')
    if (command.kind !== 'restore') throw new Error('not a restore')
    expect((await one.agent.request('GET', `/v1/agent/restores/${id}/grant`)).body).toEqual(grant)
    const { leaseId } = command.body
    const beat = await progress(id, leaseId)
    expect(beat.json()).toMatchObject({ cancel: false })
    expect((await show(id)).json()).toMatchObject({ state: 'running', progress: { done: { files: 1 } } })

    expect((await end(id, leaseId, 'completed')).status).toBe(200)
    expect((await end(id, leaseId, 'completed')).status).toBe(200)
    expect((await show(id)).json()).toMatchObject({ state: 'completed', waitingFor: null, totals })
    expect((await one.agent.poll()).commands).toEqual([])
  })

  it('with the same key and body is the same restore; with another body it is refused', async () => {
    const first = await ask()
    const second = await ask()
    expect([first.status, second.status]).toEqual([201, 200])
    expect(second.json().id).toBe(first.json().id)
    expect((await ask({ conflict: 'never' })).status).toBe(422)
    expect((await ask({}, 'another-key')).json().id).not.toBe(first.json().id)
    expect((await server.call('POST', '/v1/restores', one.token, body())).status).toBe(422)
  })

  it('by series and time is refused where another appliance says that it made one of the series: it could put its own in the place of any', async () => {
    const code = await server.call('POST', '/v1/enrolment-codes', administrator, { controllerId: one.controllerId, siteId: one.siteId })
    const other = server.makeAgent()
    expect((await other.enroll(String(code.json()['code']))).status).toBe(201)
    const counts = { source: 'documents', at: '2027-01-01T06:00:00.000Z', files: 1, bytes: 1, storedBytes: 1, tags: [] }
    const report = { snapshotId: 'b'.repeat(32), runId: `run_${'b'.repeat(32)}`, storeId: one.storeId, series, ...counts }
    expect((await other.request('POST', '/v1/agent/snapshots', report)).status).toBe(200)
    const { snapshotId: _, ...rest } = body()
    const asked = { ...rest, series, at: '2027-01-02T00:00:00.000Z' }
    const reply = await server.call('POST', '/v1/restores', one.token, asked, { 'idempotency-key': 'by-series-of-two' })
    expect(reply.json()).toMatchObject({ status: 409, detail: expect.stringContaining('snapshotId') as string })
    expect((await server.call('POST', '/v1/restores', one.token, body(), { 'idempotency-key': 'by-id-of-two' })).status).toBe(201)
  })

  it('by series and time takes the newest snapshot that is not younger', async () => {
    const { snapshotId: _, ...rest } = body()
    const reply = await server.call(
      'POST',
      '/v1/restores',
      one.token,
      { ...rest, series, at: '2027-01-02T00:00:00.000Z' },
      { 'idempotency-key': 'by-series' },
    )
    expect(reply.json()).toMatchObject({ snapshotId, series })
    const early = await server.call(
      'POST',
      '/v1/restores',
      one.token,
      { ...rest, series, at: '2026-01-02T00:00:00.000Z' },
      { 'idempotency-key': 'by-series-2' },
    )
    expect(early.status).toBe(404)
  })

  it.each([
    ['an unknown snapshot', { snapshotId: '0'.repeat(32) }, 404],
    ['an unknown restore root', { restoreRoot: 'elsewhere' }, 422],
    ['a purpose that is not on the list', { purpose: 'curiosity' }, 422],
    ['an unknown instruction', { instructionId: `ins_${'0'.repeat(32)}` }, 403],
    ['an unknown field', { force: true }, 422],
    ['no token', { selection: { tokens: [] } }, 422],
    ['too many tokens', { selection: { tokens: Array.from({ length: 10_001 }, () => '0'.repeat(64)) } }, 422],
  ])('is refused with %s', async (_, changes, status) => {
    expect((await ask(changes)).status).toBe(status)
  })

  it('is refused once the instruction is withdrawn, though a repeated request still gets the restore that it made', async () => {
    const first = await ask({}, 'before-the-end')
    await server.call('POST', `/v1/instructions/${one.instructionId}/withdraw`, one.token)
    expect((await ask()).json()).toMatchObject({ status: 403, code: 'policy' })
    const again = await ask({}, 'before-the-end')
    expect([again.status, again.json().id]).toEqual([200, first.json().id])
  })

  it('can be cancelled at any step, and the agent is told to stop', async () => {
    const { id, leaseId } = await running()
    expect((await server.call('POST', `/v1/restores/${id}/cancel`, one.token)).json()['state']).toBe('cancelled')
    expect((await server.call('POST', `/v1/restores/${id}/cancel`, one.token)).status).toBe(200)
    expect((await progress(id, leaseId)).json()).toMatchObject({ cancel: true })
    expect((await takeCommand('cancel')).command.body).toEqual({ restoreId: id })
    expect((await end(id, leaseId, 'cancelled')).status).toBe(200)
    expect((await show(id)).json()['state']).toBe('cancelled')
  })

  it('whose lease ended is given out anew, and the old lease is fenced out', async () => {
    const { id, leaseId } = await running()
    server.clock.advance(91_000)
    expect(await advanceRestore(server.context, id)).toMatchObject({ state: 'granted' })
    expect((await progress(id, leaseId)).json()).toMatchObject({ status: 409, code: 'lease-lost' })
    const { command } = await takeCommand('restore')
    if (command.kind !== 'restore') throw new Error('not a restore')
    expect(command.body.leaseId).not.toBe(leaseId)
    expect((await end(id, leaseId, 'completed')).status).toBe(409)
    expect((await end(id, command.body.leaseId, 'completed_with_errors')).status).toBe(200)
    expect((await show(id)).json()).toMatchObject({ state: 'completed_with_errors', attempt: 1 })
  })

  it('that nobody grants expires', async () => {
    const id = (await ask()).json().id
    await server.queue.drain(server.context)
    server.clock.advance(72 * 3_600_000)
    expect(await advanceRestore(server.context, id)).toEqual({ state: 'expired', againMs: undefined })
  })

  it('that the agent refuses fails with its code', async () => {
    const id = (await ask()).json().id
    await server.queue.drain(server.context)
    const [signed] = (await one.agent.poll()).commands
    await one.agent.poll({ acknowledged: [{ commandId: signed!.command.id, result: 'refused', code: 'policy' }] })
    expect((await show(id)).json()).toMatchObject({ state: 'failed', code: 'policy' })
  })

  it('is not there for another agent, and ends when its own is revoked', async () => {
    const { id, leaseId } = await running()
    const stranger = await server.makeControllerWithAgent(administrator)
    for (const [method, path, sent] of [
      ['GET', 'grant', undefined],
      ['POST', 'result', { leaseId, outcome: 'failed', totals }],
    ] as const) {
      expect((await stranger.agent.request(method, `/v1/agent/restores/${id}/${path}`, sent)).status).toBe(404)
    }
    expect((await stranger.agent.putRestoreKey(id)).status).toBe(404)
    expect((await server.call('GET', `/v1/restores/${id}`, stranger.token)).status).toBe(404)
    await server.call('POST', `/v1/agents/${one.agent.id}/revoke`, administrator)
    expect((await show(id)).json()['state']).toBe('failed')
  })

  it('of a controller with the rule of two needs a second person', async () => {
    await server.records.update({ table: 'controllers', id: one.controllerId, patch: { approval: 'second-person' } })
    const id = (await ask()).json().id
    await server.queue.drain(server.context)
    expect((await show(id)).json()['state']).toBe('awaiting_approval')
    expect((await server.call('POST', `/v1/restores/${id}/approve`, one.token)).status).toBe(403)
    const second = await server.makeToken({ controllerId: one.controllerId }, administrator)
    expect((await server.call('POST', `/v1/restores/${id}/approve`, second)).json()['state']).toBe('preparing')
  })

  it('whose prepared agent forgot it is prepared once more', async () => {
    const id = (await ask()).json().id
    await server.queue.drain(server.context)
    await takeCommand('prepare-restore')
    server.clock.advance(120_000)
    await advanceRestore(server.context, id)
    expect((await takeCommand('prepare-restore')).command.body).toMatchObject({ restoreId: id })
  })
})

describe('a plain name', () => {
  it('is refused with a word on how to do it, and is nowhere afterwards', async () => {
    const secret = '/home/jane/divorce-plan.odt'
    for (const changes of [
      { paths: [secret] },
      { selection: { path: secret } },
      { selection: { tokens: [{ name: secret }] } },
      { [secret]: true },
      { restoreRoot: secret },
    ]) {
      const reply = await ask(changes)
      expect(reply.status).toBe(422)
      expect(reply.text).not.toContain('divorce')
      if (!(secret in changes) && !('restoreRoot' in changes)) expect(reply.text).toContain('holdfast request')
    }
    const { readFileSync, readdirSync } = await import('node:fs')
    await server.records.ping({})
    for (const name of readdirSync(server.folder)) expect(readFileSync(`${server.folder}/${name}`).includes('divorce')).toBe(false)
    expect(server.logged.join('')).not.toContain('divorce')
    expect(JSON.stringify([...server.queue.jobs.values()])).not.toContain('divorce')
  })
})

function body() {
  return {
    agentId: one.agent.id,
    snapshotId,
    selection: { whole: true },
    restoreRoot: 'restored',
    purpose: 'restore',
    instructionId: one.instructionId,
  }
}

function ask(changes: Record<string, unknown> = {}, key = 'the-first-key') {
  return server.call('POST', '/v1/restores', one.token, { ...body(), ...changes }, { 'idempotency-key': key })
}

function show(id: string) {
  return server.call('GET', `/v1/restores/${id}`, one.token)
}

async function takeCommand(kind: string): Promise<SignedCommand> {
  const { commands } = await one.agent.poll()
  const signed = signedCommand.parse(commands.find((one) => one.command.kind === kind))
  const serverKey = Buffer.from(one.agent.enrolled!.serverPublicKey, 'base64url')
  expect(verifySignature(serverKey, commandBytes(signed.command), Buffer.from(signed.signature, 'base64url'))).toBe(true)
  await one.agent.poll({ acknowledged: [{ commandId: signed.command.id, result: 'taken' }] })
  return signed
}

function progress(id: string, leaseId: string) {
  return one.agent.request('POST', `/v1/agent/restores/${id}/progress`, {
    leaseId,
    done: { files: 1, bytes: 1 },
    total: { files: 2, bytes: 2 },
  })
}

function end(id: string, leaseId: string, outcome: string) {
  return one.agent.request('POST', `/v1/agent/restores/${id}/result`, { leaseId, outcome, totals })
}

async function running(): Promise<{ id: string; leaseId: string }> {
  const id = (await ask()).json().id
  await server.queue.drain(server.context)
  await takeCommand('prepare-restore')
  await one.agent.putRestoreKey(id)
  await server.call('PUT', `/v1/restores/${id}/grant`, one.token, Buffer.from('grant'))
  const { command } = await takeCommand('restore')
  if (command.kind !== 'restore') throw new Error('not a restore')
  await progress(id, command.body.leaseId)
  return { id, leaseId: command.body.leaseId }
}

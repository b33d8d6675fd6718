// Bodies and replies of both APIs: every schema of the protocol. Input: a line with the schema's name, then JSON.
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import * as agent from '@holdfast/shared/protocol/agent.ts'
import * as commands from '@holdfast/shared/protocol/commands.ts'
import * as common from '@holdfast/shared/protocol/common.ts'
import * as deletions from '@holdfast/shared/protocol/deletions.ts'
import * as needs from '@holdfast/shared/protocol/needs.ts'
import * as records from '@holdfast/shared/protocol/records.ts'
import * as resources from '@holdfast/shared/protocol/resources.ts'
import * as restores from '@holdfast/shared/protocol/restores.ts'
import * as retention from '@holdfast/shared/protocol/retention.ts'
import { transmissionHeader, SAMPLE } from '../../_support/record-headers.ts'
import { mark } from '../_support/counters.ts'
import { type Target, violation } from '../_support/target.ts'

/** Every schema that the protocol's modules give, by its name. */
const schemas = new Map<string, z.ZodType>(
  [agent, commands, common, deletions, needs, records, resources, restores, retention].flatMap((module) =>
    Object.entries(module).filter((named): named is [string, z.ZodType] => named[1] instanceof z.ZodType),
  ),
)
const names = [...schemas.keys()]

const id = (prefix: string): string => `${prefix}_${'1'.repeat(32)}`
const time = '2026-01-01T00:00:00.000Z'
const hex64 = 'a'.repeat(64)
const appliance = { agentVersion: '0.1.0', sources: ['documents'], restoreRoots: ['desk'] }
const SAMPLES: Readonly<Record<string, unknown>> = {
  enrollRequest: { secret: 'a'.repeat(25), publicKey: 'A'.repeat(43), enrolmentKey: 'A'.repeat(1622), host: 'kiosk', ...appliance },
  pollRequest: {
    ...appliance,
    policiesVersion: 1,
    bundleVersion: 1,
    rosterVersion: 1,
    journal: { pending: 0, bytes: 0, limitBytes: 2 ** 30 },
    recordedThrough: 0,
    acknowledged: [{ commandId: id('cmd'), result: 'refused', code: 'policy' }],
    waitSeconds: 45,
  },
  pollReply: {
    serverTime: time,
    acceptedThrough: 1,
    acceptedHash: hex64,
    recordedThrough: 1,
    policiesVersion: 1,
    bundleVersion: 1,
    rosterVersion: 1,
    commands: [],
  },
  runReport: { runId: id('run'), kind: 'backup', state: 'running', startedAt: time },
  snapshotReport: {
    snapshotId: '1'.repeat(32),
    runId: id('run'),
    storeId: id('store'),
    series: hex64,
    source: 'documents',
    at: time,
    files: 1,
    bytes: 1,
    storedBytes: 1,
    tags: [],
  },
  restoreBody: {
    agentId: id('ag'),
    snapshotId: '1'.repeat(32),
    selection: { tokens: [hex64] },
    restoreRoot: 'desk',
    purpose: 'restore',
    instructionId: id('ins'),
  },
  recordHeader: transmissionHeader(Buffer.alloc(0), Buffer.alloc(32)),
  controllerBody: { name: 'A controller', countries: ['CA'], approval: 'second-person' },
  storeBody: {
    controllerId: id('ctl'),
    name: 'S3',
    region: 'CA-QC',
    country: 'CA',
    kind: 's3',
    endpoint: 'https://objects.example',
    bucket: 'backup',
    prefix: 'a/b',
  },
  instructionBody: {
    controllerId: id('ctl'),
    kind: 'standing',
    author: 'A',
    channel: 'letter',
    scope: { agentIds: [id('ag')] },
    purposes: ['backup'],
    textHash: hex64,
  },
  policyBody: {
    agentId: id('ag'),
    source: 'documents',
    schedule: { dailyAt: '02:30', timeZone: 'Europe/Berlin' },
    storeId: id('store'),
    instructionId: id('ins'),
  },
  userBody: { userName: 'operator', role: 'operator', password: 'long enough to be one' },
  pageQuery: { limit: '50', cursor: 'abc' },
  problem: { type: 'about:blank', title: 'T', status: 409, code: 'conflict', detail: 'D', requestId: id('req'), expectedSeq: 5 },
  actor: `policy:${SAMPLE.policyId}`,
}

export const apiBodies: Target = {
  name: 'api-bodies',
  about: 'every schema of the protocol: reading never throws, and what is taken is taken again, as the same',
  form: 'json',
  covers: ['shared/protocol/common.ts', 'shared/protocol/schedule.ts', 'shared/ids.ts'],
  weight: 3,
  bytesMax: 4096,
  seeds: () => [
    ...Object.entries(SAMPLES).map(([name, value]) => Buffer.from(JSON.stringify([name, value]))),
    ...names.map((name) => Buffer.from(JSON.stringify([name, {}]))),
  ],
  run: (input) => {
    let value: unknown
    try {
      value = JSON.parse(input.toString('utf8'))
    } catch (error) {
      if (error instanceof SyntaxError) return 'refused'
      throw error
    }
    if (!Array.isArray(value)) return 'refused'
    const name = typeof value[0] === 'string' && schemas.has(value[0]) ? value[0] : 'policyBody'
    const schema = schemas.get(name)!
    const parsed = schema.safeParse(value[1])
    // The rules of a schema are data, not branches: which of them refused is what leads on.
    if (!parsed.success) {
      for (const { code, path } of parsed.error.issues.slice(0, 8))
        mark(`${name} ${code} ${path.filter((part) => typeof part === 'string').join('.')}`)
      return 'refused'
    }
    mark(`${name} taken`)
    const again = schema.safeParse(JSON.parse(JSON.stringify(parsed.data)))
    if (!again.success || !isDeepStrictEqual(again.data, parsed.data)) violation(`${name}: what was taken is not taken again`)
    return 'taken'
  },
}

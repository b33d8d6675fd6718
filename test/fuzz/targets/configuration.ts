// What people and servers tell an agent to do: agent.json, policies, commands, locations, codes that are typed.
import { AGENT_CONFIG_EXAMPLE, excludeRules, parseAgentConfig } from '../../../agent/daemon/agent-config.ts'
import { openCommand } from '../../../agent/daemon/commands.ts'
import { narrowings, takeIn, whyRefused } from '../../../agent/daemon/policy-consent.ts'
import { parseReply } from '../../../agent/daemon/server-client.ts'
import { parseRecoveryCode, printRecoveryCode } from '../../../agent/keys/recovery-code.ts'
import { formatLocation, parseLocation } from '@holdfast/shared/store/location.ts'
import type { Json } from '@holdfast/shared/canonical-json.ts'
import { isoTime, parseTime } from '@holdfast/shared/clock.ts'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { policiesReply } from '@holdfast/shared/protocol/agent.ts'
import { firstDue, nextDue, stepMs } from '@holdfast/shared/protocol/schedule.ts'
import { commandBytes, parseEnrolmentCode } from '@holdfast/shared/protocol/signatures.ts'
import { signingKey } from '@holdfast/shared/signing.ts'
import { readerPrimitives } from '../../reader/reader-support.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { accepted, type Target, violation } from '../_support/target.ts'

const bytes = seededRandom('configuration')
const { recoveryCode: readerRecoveryCode } = await readerPrimitives()
const id = (prefix: string, digit: string): string => `${prefix}_${digit.repeat(32)}`
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

export const agentConfig: Target = {
  name: 'agent-config',
  about: 'agent.json: every path that is taken is absolute and holds no NUL, and every label leads to a source',
  form: 'json',
  covers: ['agent/daemon/agent-config.ts', 'shared/store/location.ts'],
  weight: 2,
  bytesMax: 8192,
  seeds: () => {
    const example = JSON.parse(AGENT_CONFIG_EXAMPLE) as object
    return [Buffer.from(AGENT_CONFIG_EXAMPLE), json({ host: 'a' }), json({ ...example, restoreRoots: { raw: { hex: '2f7372762fff' } } })]
  },
  run: (input) => {
    const config = accepted(() => parseAgentConfig(input.toString('utf8'), 'agent.json'))
    if (config === undefined) return 'refused'
    const paths = [...Object.values(config.sources).flatMap((source) => source.paths), ...Object.values(config.restoreRoots)]
    if (paths.some((path) => path[0] !== 0x2f || path.includes(0))) violation('a path is not absolute, or holds a NUL')
    for (const label of Object.keys(config.sources)) excludeRules(config, label, Object.keys(config.excludes))
    for (const foreign of ['__proto__', 'constructor', 'toString'])
      if (accepted(() => excludeRules(config, foreign, [])) !== undefined) violation(`${foreign} is a source`)
    return 'taken'
  },
}

const CONFIG = parseAgentConfig(AGENT_CONFIG_EXAMPLE, 'agent.json')
const policy = {
  policyId: id('pol', '1'),
  version: 1,
  source: 'documents',
  schedule: { every: '6h' },
  storeId: 'store_00112233445566778899aabbccddeeff',
  instructionId: id('ins', '2'),
  purpose: 'backup',
  tags: ['daily'],
  excludes: ['media'],
  enabled: true,
  since: '2026-01-01T00:00:00.000Z',
}
const POLICIES = {
  version: 3,
  policies: [policy, { ...policy, policyId: id('pol', '3'), schedule: { dailyAt: '02:30', timeZone: 'America/Toronto' } }],
  stores: [{ storeId: policy.storeId, kind: 's3', region: 'CA-QC', country: 'CA' }],
}
const BEFORE = takeIn(undefined, policiesReply.parse(POLICIES), undefined)

export const policies: Target = {
  name: 'policies',
  about: 'policies from the server: none narrows another without consent, and each is due at a time that can be told and lies ahead',
  form: 'json',
  covers: ['agent/daemon/policy-consent.ts', 'shared/protocol/schedule.ts'],
  weight: 1,
  bytesMax: 8192,
  seeds: () => [json(POLICIES), json({ ...POLICIES, policies: [] })],
  run: (input) => {
    const reply = accepted(() => parseReply(policiesReply, input, '/v1/agent/policies'))
    if (reply === undefined) return 'refused'
    const next = takeIn(BEFORE, reply, undefined)
    for (const old of BEFORE.inForce)
      if (
        narrowings(
          old,
          next.inForce.find(({ policyId }) => policyId === old.policyId),
        ).length > 0
      )
        violation('a policy was narrowed')
    for (const each of next.inForce) {
      whyRefused(CONFIG, each, next.stores)
      const since = parseTime(each.since)
      const first = firstDue(each.schedule, since)
      const after = nextDue(each.schedule, first)
      if (!(stepMs(each.schedule) > 0) || !(first >= since) || !(after > first)) violation('a policy is never due again')
      isoTime(first)
    }
    return 'taken'
  },
}

const serverKey = signingKey(bytes.bytes(32))
const NOW = Date.UTC(2026, 0, 1, 12)
const common = { id: id('cmd', '1'), agentId: id('ag', '2'), issuedAt: '2026-01-01T11:59:00.000Z', expiresAt: '2026-01-01T13:00:00.000Z' }
const restoreBody = {
  restoreId: id('rst', '1'),
  snapshot: { snapshotId: '5'.repeat(32) },
  selection: { whole: true },
  restoreRoot: 'desk',
  conflict: 'beside',
  purpose: 'restore',
  instructionId: id('ins', '2'),
  storeId: id('store', '3'),
  requestedBy: id('user:usr', '4'),
  approvedBy: null,
}
const COMMANDS = [
  { ...common, kind: 'backup-now', body: { policyId: id('pol', '1') } },
  { ...common, kind: 'prepare-restore', body: restoreBody },
  {
    ...common,
    kind: 'restore',
    body: { ...restoreBody, leaseId: id('lea', '5'), leaseUntil: '2026-01-01T12:01:30.000Z', selection: { tokens: ['6'.repeat(64)] } },
  },
  { ...common, kind: 'cancel', body: { runId: id('run', '7') } },
  { ...common, kind: 'update-policies', body: { version: 9 } },
]

export const command: Target = {
  name: 'command',
  about: 'a command, signed by the server whatever it says: what is carried out is for this agent and has not expired',
  form: 'json',
  covers: ['agent/daemon/commands.ts', 'shared/canonical-json.ts'],
  weight: 1,
  bytesMax: 4096,
  seeds: () => COMMANDS.map((each) => json(each)),
  run: (input) => {
    let value: Json
    try {
      value = JSON.parse(input.toString('utf8')) as Json
    } catch (error) {
      if (error instanceof SyntaxError) return 'refused'
      throw error
    }
    const message = accepted(() => commandBytes(value))
    const signature = (message === undefined ? Buffer.alloc(64) : serverKey.sign(message)).toString('base64url')
    const expect = { agentId: common.agentId, serverKey: serverKey.publicKey, nowMs: NOW }
    const opened = accepted(() => openCommand({ command: value, signature }, expect))
    if (opened === undefined) return 'refused'
    if (opened.agentId !== common.agentId || !(Date.parse(opened.expiresAt) > NOW))
      violation('a command for another agent or time is carried out')
    if (
      accepted(() => openCommand({ command: { ...(value as object), id: id('cmd', '9') }, signature }, expect)) !== undefined &&
      opened.id !== id('cmd', '9')
    )
      violation('a command opens with the signature of another')
    return 'taken'
  },
}

export const location: Target = {
  name: 'location',
  about: 'the location of a repository: what is taken is written in one way and read back the same',
  form: 'text',
  covers: ['shared/store/location.ts'],
  weight: 2,
  bytesMax: 600,
  seeds: () =>
    ['s3:https://objects.example:8443/backup/site-1', 's3:http://127.0.0.1:9000/bucket', '/srv/backup', 'relative'].map((text) =>
      Buffer.from(text),
    ),
  run: (input) => {
    const read = accepted(() => parseLocation(input.toString('utf8')))
    if (read === undefined) return 'refused'
    const again = accepted(() => parseLocation(formatLocation(read)))
    if (JSON.stringify(again) !== JSON.stringify(read)) violation(`${JSON.stringify(read)} is read back as ${JSON.stringify(again)}`)
    if (read.kind === 's3' && /(?:^|\/)\.{1,2}(?:\/|$)|\/\/|[?#@]/.test(`${read.bucket}/${read.prefix}`))
      violation('a prefix leads elsewhere')
    return 'taken'
  },
}

export const recoveryCode: Target = {
  name: 'recovery-code',
  about: 'a recovery code as it is typed: the reader that is kept with it, made apart from this, says the same',
  form: 'text',
  covers: ['agent/keys/recovery-code.ts'],
  weight: 1,
  bytesMax: 100,
  seeds: () => [bytes.bytes(20), Buffer.alloc(20), Buffer.alloc(20, 255)].map((code) => Buffer.from(printRecoveryCode(code))),
  run: (input) => {
    const text = input.toString('utf8')
    const code = accepted(() => parseRecoveryCode(text))
    // The reader has no mercy with dashes that are not hyphens.
    const plain = text.replaceAll(/[\u2010-\u2015\u2212]/g, '-')
    const other = readerRecoveryCode(plain)
    if (code?.toString('hex') !== other?.toString('hex')) violation('the reader reads another code')
    if (code === undefined) return 'refused'
    if (!parseRecoveryCode(printRecoveryCode(code)).equals(code)) violation('a code that is printed is read as another')
    return 'taken'
  },
}

export const enrolmentCode: Target = {
  name: 'enrolment-code',
  about: 'an enrolment code as it is typed',
  form: 'text',
  covers: ['shared/protocol/signatures.ts'],
  weight: 1,
  bytesMax: 120,
  seeds: () => [Buffer.from(`hf1-${'a'.repeat(25)}-${'2'.repeat(20)}`)],
  run: (input) => {
    try {
      const { secret, pin } = parseEnrolmentCode(input.toString('utf8'))
      if (!/^[a-z2-7]{25}$/.test(secret) || !/^[a-z2-7]{20}$/.test(pin)) violation('half a code is none')
      return 'taken'
    } catch (error) {
      if (isHoldfastError(error, 'usage')) return 'refused'
      throw error
    }
  },
}

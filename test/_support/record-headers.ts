// Record headers with plausible values, for tests that need one and do not care which.
import { decodeFileRecords, filesRoot } from '@holdfast/shared/record.ts'
import type { RecordHeader } from '@holdfast/shared/protocol/records.ts'

const hex = (digit: string): string => digit.repeat(32)
export const SAMPLE = {
  agentId: `ag_${hex('a')}`,
  controllerId: `ctl_${hex('b')}`,
  processorId: `prc_${hex('c')}`,
  runId: `run_${hex('d')}`,
  storeId: `store_${hex('e')}`,
  instructionId: `ins_${hex('f')}`,
  policyId: `pol_${hex('1')}`,
} as const

/** The header of a transmission whose body this is. */
export function transmissionHeader(
  body: Buffer,
  secret: Uint8Array,
  changes: Partial<Extract<RecordHeader, { kind: 'transmission' }>> = {},
) {
  const files = decodeFileRecords(body)
  const sum = (of: (file: (typeof files)[number]) => number): number =>
    files.reduce((total, file) => Math.min(Number.MAX_SAFE_INTEGER, total + of(file)), 0)
  return {
    v: 1,
    kind: 'transmission',
    agentId: SAMPLE.agentId,
    controllerId: SAMPLE.controllerId,
    processorId: SAMPLE.processorId,
    actor: `policy:${SAMPLE.policyId}`,
    instructionId: SAMPLE.instructionId,
    purpose: 'backup',
    at: '2026-01-31T12:00:00.000Z',
    runId: SAMPLE.runId,
    source: 'documents',
    from: { region: 'CA-QC' },
    to: { region: 'CA-ON', storeId: SAMPLE.storeId, country: 'CA' },
    files: {
      count: files.length,
      bytes: sum((file) => file.size),
      new: sum((file) => file.bytesNew),
      reused: 0,
      failed: files.filter((file) => file.outcome === 'failed').length,
    },
    filesRoot: filesRoot(secret, body).toString('hex'),
    outcome: 'ok',
    ...changes,
  } satisfies RecordHeader
}

// The records of an installation as whoever verifies them gets them, and what must hold of them whatever died meanwhile.
import { join } from 'node:path'
import { expect } from 'vitest'
import { decodeFileRecords } from '@holdfast/shared/record.ts'
import { rootKeys } from '../../../agent/keys/domain.ts'
import { createTokens } from '../../../agent/repository/snapshot.ts'
import { rootOfDomain } from './domain-root.ts'
import type { Installation } from './installation.ts'
import { filesBelow } from './leak-search.ts'

/** The token of every regular file of the source as it is now, and whose it is. */
export async function tokensOfSource(one: Installation): Promise<Map<string, string>> {
  const tokens = createTokens(rootKeys(await rootOfDomain(one.place.path('controller', 'domain'))).write.structure.recordKey)
  return new Map(
    filesBelow(one.source).map(({ name }) => {
      const path = join(one.source, name)
      return [tokens.path(Buffer.from(path)), path]
    }),
  )
}

type Exported = { readonly seq: number; readonly prev: string; readonly entryHash: string; readonly header: string; readonly body: string }

/** All records, as the server exports them to whoever verifies, oldest first. */
async function exported(one: Installation): Promise<Exported[]> {
  const reply = await fetch(`${one.url}/v1/records/export`, { headers: { authorization: `Bearer ${one.customer.token}` } })
  expect(reply.status).toBe(200)
  const lines = (await reply.text()).trimEnd().split('\n')
  return lines.map((line) => JSON.parse(line) as Exported).sort((a, b) => a.seq - b.seq)
}

/** The tokens of the files that a run has transmission records of, each as often as there is one. */
export async function transmissionsOf(one: Installation, runId: string): Promise<string[]> {
  return (await exported(one)).flatMap(({ header, body }) => {
    const { kind, runId: of } = JSON.parse(Buffer.from(header, 'base64url').toString()) as { kind: string; runId?: string }
    if (kind !== 'transmission' || of !== runId) return []
    return decodeFileRecords(Buffer.from(body, 'base64url')).map(({ token }) => Buffer.from(token).toString('hex'))
  })
}

/** Each of these files, and no other, has one record of the run. */
export async function requireExactly(one: Installation, runId: string, expected: ReadonlySet<string>): Promise<void> {
  const tokens = await transmissionsOf(one, runId)
  expect(tokens.length).toBe(expected.size)
  expect(new Set(tokens)).toEqual(expected)
}

/** Numbers without a gap, each record on the one before it, none held back. */
export async function requireWholeChain(one: Installation): Promise<void> {
  const records = await exported(one)
  expect(records.map(({ seq }) => seq)).toEqual(records.map((_, i) => i + 1))
  for (const [i, { prev }] of records.entries())
    expect(Buffer.from(prev, 'base64url').toString('hex')).toBe(records[i - 1]?.entryHash ?? '0'.repeat(64))
  const { incident } = await one.api.get<{ incident: string | null }>(`/v1/agents/${one.agentId}`)
  expect(incident).toBeNull()
}

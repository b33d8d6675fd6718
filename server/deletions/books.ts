// What the server itself knows, for the decision about one deletion list: snapshots, stated needs, and the retention in force.
import { PACK_REF_BYTES } from '@holdfast/shared/protocol/needs.ts'
import { stepMs } from '@holdfast/shared/protocol/schedule.ts'
import type { Context } from '../context.ts'
import type { NeedInterval } from '../records/records.ts'
import type { StoreRow } from '../records/rows.ts'
import { isInForce } from '../routes/instructions.ts'
import type { Books, DeletionStored, SourceRules } from './explain.ts'
import { absentSince } from './gone.ts'

/** Packs asked about at once: one answer of the database stays small. */
const AT_ONCE = 5000

export async function booksFor(
  { records, clock }: Pick<Context, 'records' | 'clock'>,
  store: StoreRow,
  { list }: DeletionStored,
): Promise<Books> {
  const storeId = store.id
  const { snapshots, replaced, settled, agents, forgotten, absent } = await records.booksOf({ storeId })
  const byId = new Map<string, Set<string>>()
  for (const { id, agentId } of replaced) byId.set(id, (byId.get(id) ?? new Set<string>()).add(agentId))
  const packs = Buffer.from(list.names.flatMap((name) => (name.kind === 'pack' ? [name.session + name.random] : [])).join(''), 'hex')
  const sessions = new Set(list.names.flatMap(({ kind, session }) => (kind === 'session' || kind === 'end' ? [session] : [])))
  const needs = [
    ...(await records.needsOf({ storeId, packs: Buffer.alloc(0), sessions: [...sessions] })),
    ...(await statedNeeds(records, storeId, packs)),
  ]
  const stands = list.names.some(({ kind }) => kind === 'index') ? await records.needStands({ storeId }) : []
  const rules = await rulesIn({ records, clock }, store)
  return {
    snapshots,
    replaced: byId,
    settled: new Set(settled),
    agents,
    needs,
    stands,
    rulesOf: (agentId, source) => rules.get(`${agentId} ${source}`),
    absent: absentSince(absent, clock.now()),
    // What belongs to no series has no owner in the books.
    forgotten: new Map(
      forgotten.flatMap(({ agentId, id, at: since, heardAt }) => [
        [`${agentId} ${id}`, { since, heardAt }] as const,
        ...(byId.get(id)?.has(agentId) === true ? [[` ${id}`, { since, heardAt }] as const] : []),
      ]),
    ),
  }
}

/** What was stated about packs, 32 bytes each. */
export async function statedNeeds(records: Context['records'], storeId: string, packs: Buffer): Promise<NeedInterval[]> {
  const needs: NeedInterval[] = []
  for (let at = 0; at < packs.length; at += AT_ONCE * PACK_REF_BYTES)
    needs.push(...(await records.needsOf({ storeId, packs: packs.subarray(at, at + AT_ONCE * PACK_REF_BYTES), sessions: [] })))
  return needs
}

/** The retention of the store's policies, where the instruction behind the policy is in force (O6). */
async function rulesIn({ records, clock }: Pick<Context, 'records' | 'clock'>, store: StoreRow): Promise<ReadonlyMap<string, SourceRules>> {
  const rules = new Map<string, SourceRules>()
  let after: number | undefined
  do {
    const page = await records.list({ table: 'policies', where: { storeId: store.id }, limit: 500, after })
    for (const { agentId, source, retention, schedule, instructionId, purpose } of page.items) {
      if (retention === null) continue
      const instruction = await records.get({ table: 'instructions', id: instructionId })
      const act = { controllerId: store.controllerId, purpose, agentId, source, now: clock.now() }
      if (isInForce(instruction, act)) rules.set(`${agentId} ${source}`, { retention, stepMs: stepMs(schedule) })
    }
    after = page.next ?? undefined
  } while (after !== undefined)
  return rules
}

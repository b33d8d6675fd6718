// Runs: backups and recoveries as agents reported them, and how far their records prove them.
import { parseTime } from '@holdfast/shared/clock.ts'
import type { Agent, Page, RecordSummary, Run } from '../api.ts'
import { withQuery } from '../api.ts'
import { at, badge, bytes, codeWords, count, ratio, runBadge, short, span } from '../format.ts'
import { html } from '../html.ts'
import type { Html, Part } from '../html.ts'
import { empty, facts, heading, pager, select, table } from '../layout.ts'
import type { Column } from '../layout.ts'
import type { PageOf } from './context.ts'
import { recordTable } from './records.ts'

export const RUN_COLUMNS: readonly Column[] = [
  { head: 'Run' },
  { head: 'Agent' },
  { head: 'State' },
  { head: 'What' },
  { head: 'Began' },
  { head: 'Took', kind: 'num' },
  { head: 'Files', kind: 'num' },
  { head: 'Size', kind: 'num' },
  { head: 'Stored', kind: 'num' },
  { head: 'Proof' },
]

export const runsPage: PageOf = async ({ api, query, limits }) => {
  const { agentId, kind, cursor } = query
  const [runs, agents] = await Promise.all([
    api.get<Page<Run>>('/v1/runs', { agentId, kind, cursor, limit: 100 }),
    api.all<Agent>('/v1/agents'),
  ])
  const byId = new Map(agents.items.map((agent) => [agent.id, agent]))
  const body = html`${heading('Runs', 'newest first')}
    <form class="filter" method="get" action="/runs">
      ${select(
        'agentId',
        'Agent',
        agents.items.map((agent) => ({ value: agent.id, word: agent.host })),
        agentId,
      )}
      ${select(
        'kind',
        'Kind',
        [
          { value: 'backup', word: 'Backup' },
          { value: 'recovery', word: 'Recovery' },
        ],
        kind,
      )}
      <button class="quiet">Show</button>
    </form>
    ${runs.items.length === 0 ? empty('No run fits.', 'Runs appear here when an agent has delivered their first record.') : table('Runs', RUN_COLUMNS, runRows(runs.items, byId, limits.now))}
    ${pager(runs.next === null ? undefined : withQuery('/runs', { agentId, kind, cursor: runs.next }), cursor === undefined ? undefined : withQuery('/runs', { agentId, kind }))}`
  return { title: 'Runs', here: '/runs', body, live: cursor === undefined }
}

/** The cells of runs, in the order of `RUN_COLUMNS`. */
export function runRows(runs: readonly Run[], agents: ReadonlyMap<string, Agent>, now: number): Part[][] {
  return runs.map((run) => [
    html`<a href="/runs/${run.id}">${short(run.id)}</a>`,
    html`<a href="/agents/${run.agentId}">${agents.get(run.agentId)?.host ?? short(run.agentId)}</a>`,
    html`${runBadge(run.state)}${run.code !== null && run.code !== run.state && html`<span class="sub">${run.code}</span>`}`,
    html`${run.kind === 'backup' ? 'Backup' : 'Recovery'}<span class="sub">${run.source ?? '–'}</span>`,
    at(run.startedAt),
    span((run.endedAt === null ? now : parseTime(run.endedAt)) - parseTime(run.startedAt)),
    run.totals === null ? html`<span class="none">–</span>` : count(run.totals.files),
    run.totals === null ? html`<span class="none">–</span>` : bytes(run.totals.bytes),
    run.totals === null || run.kind === 'recovery' ? html`<span class="none">–</span>` : bytes(run.totals.storedBytes),
    proof(run),
  ])
}

function proof(run: Run): Html {
  if (run.recorded)
    return html`${badge('good', 'Recorded')}<span class="sub"
        >${count(run.recordedFiles)} ${run.kind === 'backup' ? 'transmitted' : 'restored'}</span
      >`
  return html`${badge('idle', 'Reported')}<span class="sub">${count(run.recordedFiles)} recorded so far</span>`
}

export const runPage: PageOf = async ({ api, params, query, limits }) => {
  const run = await api.get<Run>(`/v1/runs/${params['id'] ?? ''}`)
  const [agent, records] = await Promise.all([
    api.get<Agent>(`/v1/agents/${run.agentId}`),
    api.get<Page<RecordSummary>>('/v1/records', { runId: run.id, cursor: query['cursor'], limit: 50 }),
  ])
  const { totals } = run
  const ended = run.endedAt === null ? limits.now : parseTime(run.endedAt)
  const body = html`<p class="crumb"><a href="/runs">Runs</a></p>
    ${heading(html`${run.kind === 'backup' ? 'Backup' : 'Recovery'} of ${run.source ?? 'a snapshot'} on ${agent.host}`, runBadge(run.state))}
    ${
      run.code !== null &&
      html`<div class="notice ${run.state === 'failed' ? 'bad-notice' : 'warn-notice'}">
        <p><b>${run.code}</b>: ${codeWords(run.code)}.</p>
      </div>`
    }
    ${facts([
      ['Agent', html`<a href="/agents/${agent.id}">${agent.host}</a>`],
      ['Began', at(run.startedAt)],
      ['Ended', at(run.endedAt)],
      ['Took', span(ended - parseTime(run.startedAt))],
      ['Proof', proof(run)],
      ['Restore', run.restoreId !== null && html`<a href="/restores/${run.restoreId}">${short(run.restoreId)}</a>`],
      ['Snapshot', run.snapshotId !== null && short(run.snapshotId)],
      ['Files', totals !== null && count(totals.files)],
      ['Unchanged', totals !== null && count(totals.unchanged)],
      [
        'Failed',
        totals !== null &&
          html`${totals.failed > 0 ? badge('warn', count(totals.failed)) : '0'}${totals.failed > 0 && html`<span class="sub">their names are on the appliance only</span>`}`,
      ],
      ['Changed while read', totals !== null && count(totals.changed)],
      ['Skipped or kept', totals !== null && count(totals.skipped)],
      ['Size', totals !== null && bytes(totals.bytes)],
      ['New', totals !== null && bytes(totals.newBytes)],
      ['There already', totals !== null && bytes(totals.reusedBytes)],
      [
        'Stored',
        totals !== null &&
          run.kind === 'backup' &&
          html`${bytes(totals.storedBytes)}<span class="sub">${ratio(totals.bytes, totals.storedBytes)} smaller than what was read</span>`,
      ],
      ['Id', html`<code>${run.id}</code>`],
    ])}
    <h2>Its records</h2>
    ${records.items.length === 0 ? empty('No record of this run has arrived.', 'Until then it is what the agent reports, and proven by nothing.') : recordTable(records.items, new Map([[agent.id, agent]]))}
    ${pager(records.next === null ? undefined : withQuery(`/runs/${run.id}`, { cursor: records.next }), query['cursor'] === undefined ? undefined : `/runs/${run.id}`)}`
  return { title: 'Run', here: '/runs', body, live: run.endedAt === null }
}

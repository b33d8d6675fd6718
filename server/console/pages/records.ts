// Records: what agents signed about transmissions and recoveries, by controller, agent, kind and time; and by a file's token, which only the
// controller can compute from a name. The server has no names, so none can appear.
import type { Agent, FileRecordFound, Page, RecordSummary } from '../api.ts'
import { withQuery } from '../api.ts'
import { at, badge, bytes, count, short } from '../format.ts'
import type { Tone } from '../format.ts'
import { html, preformatted } from '../html.ts'
import type { Html } from '../html.ts'
import { command, empty, heading, pager, select, table } from '../layout.ts'
import { RECORD_KINDS } from '@holdfast/shared/protocol/records.ts'
import { namesOf } from './context.ts'
import type { PageContext, PageOf, Rendered } from './context.ts'

const KIND_WORDS: Readonly<Record<string, string>> = {
  'run-started': 'Run began',
  transmission: 'Transmission',
  'run-ended': 'Run ended',
  'recovery-started': 'Recovery began',
  recovery: 'Recovery',
  'recovery-ended': 'Recovery ended',
  'agent-note': 'Note of the agent',
}

export const recordsPage: PageOf = async (context) => {
  const { api, query } = context
  const token = query['token']?.trim().toLowerCase()
  if (token !== undefined && token !== '') return byToken(context, token)
  const { controllerId, agentId, kind, from, to, cursor } = query
  const filter = { controllerId, agentId, kind, from: dayBegins(from), to: dayEnds(to) }
  const kept = { controllerId, agentId, kind, from, to }
  const [records, agents, names] = await Promise.all([
    api.get<Page<RecordSummary>>('/v1/records', { ...filter, cursor, limit: 50 }),
    api.all<Agent>('/v1/agents'),
    namesOf(api),
  ])
  const byId = new Map(agents.items.map((agent) => [agent.id, agent]))
  const body = html`${heading('Records', 'what agents signed, newest first')}
    <form class="filter" method="get" action="/records">
      ${select(
        'controllerId',
        'Controller',
        [...names.controllers.values()].map(({ id, name }) => ({ value: id, word: name })),
        controllerId,
      )}
      ${select(
        'agentId',
        'Agent',
        agents.items.map((agent) => ({ value: agent.id, word: agent.host })),
        agentId,
      )}
      ${select(
        'kind',
        'Kind',
        RECORD_KINDS.map((value) => ({ value, word: KIND_WORDS[value] ?? value })),
        kind,
      )}
      <label>From day <input type="date" name="from" value="${from ?? ''}" /></label>
      <label>To day <input type="date" name="to" value="${to ?? ''}" /></label>
      <button class="quiet">Show</button>
      <a class="button quiet" href="${withQuery('/v1/records/export', filter)}" download="holdfast-records.ndjson"
        >Export these as NDJSON</a
      >
    </form>
    ${tokenForm('')}
    ${records.items.length === 0 ? empty('No record fits.', 'Agents deliver their records within minutes of each transmission and recovery.') : recordTable(records.items, byId)}
    ${pager(records.next === null ? undefined : withQuery('/records', { ...kept, cursor: records.next }), cursor === undefined ? undefined : withQuery('/records', kept))}
    ${command('holdfast records NAME', 'To ask by file name, on the controller’s own machine')}`
  return { title: 'Records', here: '/records', body }
}

function tokenForm(token: string): Html {
  return html`<form class="filter" method="get" action="/records">
    <label
      >Token of one file
      <input
        name="token"
        value="${token}"
        size="44"
        maxlength="64"
        pattern="[0-9a-fA-F]{64}"
        title="64 hex digits, as holdfast records NAME prints them"
        spellcheck="false"
        autocomplete="off"
    /></label>
    <button class="quiet">Find</button>
  </form>`
}

async function byToken({ api, query }: PageContext, token: string): Promise<Rendered> {
  const found = await api.get<Page<FileRecordFound>>(`/v1/records/by-token/${encodeURIComponent(token)}`, {
    cursor: query['cursor'],
    limit: 50,
  })
  const agents = await api.all<Agent>('/v1/agents')
  const hosts = new Map(agents.items.map((agent) => [agent.id, agent.host]))
  const body = html`<p class="crumb"><a href="/records">Records</a></p>
    ${heading(html`Records of one file`, short(token))} ${tokenForm(token)}
    ${
      found.items.length === 0
        ? empty('No record holds this token.', 'The file was not transmitted or recovered by any agent, or its records have not arrived.')
        : table(
            'Records of one file',
            [
              { head: 'When' },
              { head: 'What' },
              { head: 'Outcome' },
              { head: 'Agent' },
              { head: 'Record', kind: 'num' },
              { head: 'Size', kind: 'num' },
              { head: 'New', kind: 'num' },
              { head: 'Run' },
            ],
            found.items.map((one) => [
              at(one.time),
              one.kind === 'transmission' ? 'Transmission' : 'Recovery',
              outcome(one.outcome),
              html`<a href="/agents/${one.agentId}">${hosts.get(one.agentId) ?? short(one.agentId)}</a>`,
              html`${count(one.seq)}<span class="sub">file ${count(one.index + 1)} of it</span>`,
              bytes(one.size),
              bytes(one.bytesNew),
              typeof one.header['runId'] === 'string'
                ? html`<a href="/runs/${one.header['runId']}">${short(one.header['runId'])}</a>`
                : '–',
            ]),
          )
    }
    ${pager(found.next === null ? undefined : withQuery('/records', { token, cursor: found.next }), undefined)}`
  return { title: 'Records of one file', here: '/records', body }
}

/** Records with what their signed header says; the header itself can be opened. */
export function recordTable(records: readonly RecordSummary[], agents: ReadonlyMap<string, Agent>): Html {
  return table(
    'Records',
    [
      { head: 'When' },
      { head: 'Kind' },
      { head: 'Agent' },
      { head: 'No.', kind: 'num' },
      { head: 'Outcome' },
      { head: 'Purpose' },
      { head: 'Files', kind: 'num' },
      { head: 'Bytes', kind: 'num' },
      { head: 'From → to' },
      { head: 'State' },
      { head: 'All of it' },
    ],
    records.map((record) => {
      const header = readHeader(record.header)
      return [
        at(record.at),
        KIND_WORDS[record.kind] ?? record.kind,
        html`<a href="/agents/${record.agentId}">${agents.get(record.agentId)?.host ?? short(record.agentId)}</a>`,
        count(record.seq),
        header.outcome === undefined
          ? html`<span class="none">–</span>`
          : html`${outcome(header.outcome)}${header.code !== undefined && header.code !== header.outcome && html`<span class="sub">${header.code}</span>`}`,
        header.purpose ?? '–',
        record.files === 0 ? html`<span class="none">–</span>` : count(record.files),
        header.bytes === undefined ? html`<span class="none">–</span>` : bytes(header.bytes),
        way(header),
        record.recordedAt === null ? badge('busy', 'To be checked') : badge('good', 'Checked'),
        html`<details>
          <summary>Show</summary>
          ${preformatted(JSON.stringify({ ...record.header, entryHash: record.entryHash, receivedAt: record.receivedAt }, null, 2))}
        </details>`,
      ]
    }),
  )
}

type Header = { outcome?: string; code?: string; purpose?: string; bytes?: number; from?: string; to?: string }

/** What a list shows of a header; anything of another form is left out. */
function readHeader(header: Readonly<Record<string, unknown>>): Header {
  const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
  const inner = (value: unknown, key: string): unknown =>
    value !== null && typeof value === 'object' ? (value as Record<string, unknown>)[key] : undefined
  const size = inner(header['files'], 'bytes') ?? inner(header['totals'], 'bytes')
  const found = {
    outcome: text(header['outcome']),
    code: text(header['code']),
    purpose: text(header['purpose']),
    bytes: typeof size === 'number' ? size : undefined,
    from: text(inner(header['from'], 'region')),
    to: text(inner(header['to'], 'region')),
  }
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined)) as Header
}

function way({ from, to }: Header): Html {
  if (from === undefined || to === undefined) return html`<span class="none">–</span>`
  const crosses = from.slice(0, 2) !== to.slice(0, 2)
  return html`${from} → ${to}${crosses && html`<span class="sub warn">crosses a border</span>`}`
}

function outcome(word: string): Html {
  const known: Readonly<Record<string, readonly [Tone, string]>> = {
    ok: ['good', 'OK'],
    incomplete: ['warn', 'Incomplete'],
    changed: ['warn', 'Changed while read'],
    kept: ['idle', 'Kept'],
    failed: ['bad', 'Failed'],
    cancelled: ['idle', 'Cancelled'],
  }
  const [tone, text] = known[word] ?? ['idle', word]
  return badge(tone, text)
}

/** A day of the date field as the API takes it; anything else is passed on, and refused there. */
function dayBegins(day: string | undefined): string | undefined {
  return day === undefined || day === '' ? undefined : `${day}T00:00:00.000Z`
}
function dayEnds(day: string | undefined): string | undefined {
  return day === undefined || day === '' ? undefined : `${day}T23:59:59.999Z`
}

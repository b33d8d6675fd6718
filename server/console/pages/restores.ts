// Restores: who asked, who approved, who granted, whom each waits for, how far it is; approving and cancelling with a page that asks first.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { RESTORE_STATES } from '@holdfast/shared/protocol/restores.ts'
import type { Agent, Page, RecordSummary, Restore } from '../api.ts'
import { withQuery } from '../api.ts'
import { actor, ago, at, bytes, codeWords, count, restoreBadge, short } from '../format.ts'
import { html } from '../html.ts'
import type { Html, Part } from '../html.ts'
import { command, empty, facts, heading, pager, select, table } from '../layout.ts'
import { mayAct, namesOf, peopleOf } from './context.ts'
import type { PageContext, PageOf } from './context.ts'
import { recordTable } from './records.ts'

/** Where the code says no more than the state does. */
const PLAIN = new Set(['cancelled', 'expired', 'refused'])
const ENDS = new Set(['completed', 'completed_with_errors', 'failed', 'cancelled', 'expired', 'refused'])

export const restoresPage: PageOf = async ({ api, query, visitor, limits }) => {
  const { state, agentId, cursor } = query
  const [restores, agents, names, people] = await Promise.all([
    api.get<Page<Restore>>('/v1/restores', { state, agentId, cursor, limit: 100 }),
    api.all<Agent>('/v1/agents'),
    namesOf(api),
    peopleOf(api, visitor),
  ])
  const hosts = new Map(agents.items.map((agent) => [agent.id, agent.host]))
  const body = html`${heading('Restores', 'newest first')}
    <form class="filter" method="get" action="/restores">
      ${select(
        'state',
        'State',
        RESTORE_STATES.map((value) => ({ value, word: value.replaceAll('_', ' ') })),
        state,
      )}
      ${select(
        'agentId',
        'Agent',
        agents.items.map((agent) => ({ value: agent.id, word: agent.host })),
        agentId,
      )}
      <button class="quiet">Show</button>
    </form>
    ${
      restores.items.length === 0
        ? empty(
            state === undefined && agentId === undefined ? 'No restore was asked for.' : 'No restore fits.',
            html`A restore is asked for on the controller’s own machine, where names become
            tokens:${command('holdfast request latest --agent ag_… --to ROOT --instruction ins_…', '')}`,
          )
        : table(
            'Restores',
            [
              { head: 'Restore' },
              { head: 'State' },
              { head: 'What' },
              { head: 'Agent' },
              { head: 'Controller' },
              { head: 'Asked' },
              { head: 'By' },
              { head: 'Waits for', kind: 'wide' },
            ],
            restores.items.map((restore) => [
              html`<a href="/restores/${restore.id}">${short(restore.id)}</a>`,
              html`${restoreBadge(restore.state)}${restore.code !== null && !PLAIN.has(restore.state) && html`<span class="sub">${restore.code}</span>`}`,
              html`${selectionWords(restore)}<span class="sub">${restore.purpose === 'restore-test' ? 'restore test' : 'restore'}</span>`,
              html`<a href="/agents/${restore.agentId}">${hosts.get(restore.agentId) ?? short(restore.agentId)}</a>`,
              names.controllers.get(restore.controllerId)?.name ?? short(restore.controllerId),
              ago(restore.createdAt, limits.now),
              actor(restore.requestedBy, people),
              restore.state === 'running' ? progress(restore) : (restore.waitingFor ?? html`<span class="none">nobody</span>`),
            ]),
          )
    }
    ${pager(restores.next === null ? undefined : withQuery('/restores', { state, agentId, cursor: restores.next }), cursor === undefined ? undefined : withQuery('/restores', { state, agentId }))}`
  return { title: 'Restores', here: '/restores', body, live: cursor === undefined }
}

export const restorePage: PageOf = async (context) => {
  const { api, params, visitor, limits, origin } = context
  const restore = await api.get<Restore>(`/v1/restores/${params['id'] ?? ''}`)
  const [agent, records, names, people] = await Promise.all([
    api.get<Agent>(`/v1/agents/${restore.agentId}`),
    api.get<Page<RecordSummary>>('/v1/records', { restoreId: restore.id, limit: 50 }),
    namesOf(api),
    peopleOf(api, visitor),
  ])
  const open = !ENDS.has(restore.state)
  const { totals } = restore
  const body = html`<p class="crumb"><a href="/restores">Restores</a></p>
    ${heading(html`Restore on ${agent.host}`, restoreBadge(restore.state))} ${steps(restore, records.items, limits.now)}
    ${
      restore.waitingFor !== null &&
      html`<div class="notice">
        <p>Waits for ${restore.waitingFor}. It expires ${ago(restore.expiresAt, limits.now)}.</p>
        ${waitCommand(restore, origin)}
      </div>`
    }
    ${
      restore.code !== null &&
      !PLAIN.has(restore.state) &&
      html`<div class="notice ${restore.state === 'failed' ? 'bad-notice' : 'warn-notice'}">
        <p><b>${restore.code}</b>: ${codeWords(restore.code)}.</p>
      </div>`
    }
    ${restore.state === 'running' && html`<div class="notice">${progress(restore)}</div>`} ${actions(context, restore, open)}
    <h2>What and where</h2>
    ${facts([
      ['Snapshot', html`${restore.snapshotId === null ? html`the newest at ${at(restore.at)}` : html`<code>${restore.snapshotId}</code>`}`],
      ['Selection', selectionWords(restore)],
      ['To', html`${agent.host}, root <b>${restore.restoreRoot}</b>`],
      ['Where a file is there already', conflictWords(restore.conflict)],
      ['Purpose', restore.purpose === 'restore-test' ? 'restore test' : 'restore'],
      ['Instruction', short(restore.instructionId)],
      [
        'Controller',
        html`<a href="/controllers/${restore.controllerId}"
          >${names.controllers.get(restore.controllerId)?.name ?? restore.controllerId}</a
        >`,
      ],
      ['Id', html`<code>${restore.id}</code>`],
    ])}
    ${
      restore.snapshotId !== null &&
      command(
        `holdfast request ${restore.snapshotId} --agent ${restore.agentId} --to ${restore.restoreRoot} --instruction ${restore.instructionId} --purpose ${restore.purpose} --conflict ${restore.conflict}${'whole' in restore.selection ? '' : ' --path …'}`,
        'The same again, on the controller’s own machine',
      )
    }
    <h2>Who</h2>
    ${facts([
      ['Asked', html`${actor(restore.requestedBy, people)}<span class="sub">${at(restore.createdAt)}</span>`],
      [
        'Approved',
        names.controllers.get(restore.controllerId)?.approval === 'second-person' || restore.approvedBy !== null
          ? actor(restore.approvedBy, people)
          : 'not needed: its controller asks for no second person',
      ],
      [
        'Granted',
        html`${actor(restore.grantedBy, people)}<span class="sub">keys are sealed to the agent; this server cannot open them</span>`,
      ],
      ['Times given out', count(restore.attempt)],
    ])}
    ${
      totals !== null &&
      html`<h2>Result</h2>
        ${facts([
          ['Files', count(totals.files)],
          ['Size', bytes(totals.bytes)],
          ['Written', bytes(totals.newBytes)],
          ['There already', bytes(totals.reusedBytes)],
          [
            'Failed',
            html`${count(totals.failed)}${totals.failed > 0 && html`<span class="sub">their names are on the appliance only</span>`}`,
          ],
          ['Kept', count(totals.skipped)],
        ])}`
    }
    <h2>Its records</h2>
    ${records.items.length === 0 ? empty('No record yet.', 'The agent signs one before the first byte, and others as files come back.') : recordTable(records.items, new Map([[agent.id, agent]]))}`
  return { title: 'Restore', here: '/restores', body, live: open }
}

/** What brings a waiting restore on, for whoever is not at this page. */
function waitCommand(restore: Restore, origin: string): Html | false {
  if (restore.state === 'awaiting_grant') return command(`holdfast grant ${restore.id}`, 'On the controller’s own machine')
  if (restore.state === 'awaiting_approval') return command(apiCall(origin, restore.id, 'approve'), 'Or, with an API token')
  return false
}

function apiCall(origin: string, id: string, act: Ask): string {
  return `curl -X POST -H "authorization: Bearer $HOLDFAST_TOKEN" ${origin}/v1/restores/${id}/${act}`
}

function actions({ visitor }: PageContext, restore: Restore, open: boolean): Html | false {
  if (!open || !mayAct(visitor)) return false
  const own = restore.requestedBy === `user:${visitor.id}`
  const approve = restore.state === 'awaiting_approval'
  return html`<div class="actions">
    ${approve && !own && html`<a class="button" href="/restores/${restore.id}/approve">Approve…</a>`}
    ${approve && own && html`<span class="soft">You asked for it, so somebody else has to approve.</span>`}
    <a class="button quiet" href="/restores/${restore.id}/cancel">Cancel…</a>
  </div>`
}

type Step = { readonly word: string; readonly state: 'done' | 'now' | 'coming' | 'stopped'; readonly about?: Part }

/** The way of a restore: what is behind it, where it is, what is to come. */
function steps(restore: Restore, records: readonly RecordSummary[], now: number): Html {
  const recordTime = (kind: string): string | undefined => records.find((record) => record.kind === kind)?.at
  const approval = restore.approvedBy !== null || restore.state === 'awaiting_approval'
  const way: { word: string; doing: string; states: readonly string[]; passed: boolean; about?: Part }[] = [
    { word: 'Asked', doing: 'Asked', states: ['requested'], passed: true, about: at(restore.createdAt) },
    ...(approval
      ? [{ word: 'Approved', doing: 'Waits for approval', states: ['awaiting_approval'], passed: restore.approvedBy !== null }]
      : []),
    { word: 'Prepared', doing: 'Being prepared', states: ['preparing'], passed: restore.key !== null, about: 'a fresh key at the agent' },
    { word: 'Granted', doing: 'Waits for grant', states: ['awaiting_grant'], passed: restore.grantedBy !== null },
    {
      word: 'Begun',
      doing: 'Handed to the agent',
      states: ['granted'],
      passed: recordTime('recovery-started') !== undefined || restore.totals !== null || restore.state === 'running',
      about: timeOf(recordTime('recovery-started')),
    },
    {
      word: 'Restored',
      doing: 'Restoring',
      states: ['running'],
      passed: restore.state.startsWith('completed'),
      about: timeOf(recordTime('recovery-ended')),
    },
  ]
  const ended = ENDS.has(restore.state) && !restore.state.startsWith('completed')
  const shown: Step[] = []
  for (const { word, doing, states, passed, about } of way) {
    const state = passed && !states.includes(restore.state) ? 'done' : states.includes(restore.state) ? 'now' : 'coming'
    if (ended && state !== 'done') break
    shown.push({
      word: state === 'now' ? doing : word,
      state,
      about: state === 'now' ? ago(restore.updatedAt, now) : state === 'done' ? about : undefined,
    })
  }
  if (ended)
    shown.push({ word: restore.state.charAt(0).toUpperCase() + restore.state.slice(1), state: 'stopped', about: at(restore.updatedAt) })
  const words = { done: 'done', now: 'under way', coming: 'to come', stopped: 'ended here' }
  return html`<ol class="way">
    ${shown.map(
      ({ word, state, about }) =>
        html`<li class="${state}" ${state === 'now' && html` aria-current="step"`}>
          <b>${word}</b><span class="sub">${about ?? words[state]}</span>
        </li>`,
    )}
  </ol>`
}

function timeOf(iso: string | undefined): Html | undefined {
  return iso === undefined ? undefined : at(iso)
}

function progress({ progress: known, updatedAt }: Restore): Html {
  if (known === null) return html`Running since ${at(updatedAt)}`
  const { done, total } = known
  const part = total.bytes > 0 ? Math.min(1, done.bytes / total.bytes) : 0
  return html`<span
      >${Math.floor(part * 100)} %: ${count(done.files)} of ${count(total.files)} files, ${bytes(done.bytes)} of ${bytes(total.bytes)}</span
    >
    <svg class="bar" viewBox="0 0 300 6" width="300" height="6" aria-hidden="true">
      <rect class="track" width="300" height="6" rx="3" />
      <rect class="fill" width="${Math.round(part * 300)}" height="6" rx="3" />
    </svg>`
}

function selectionWords({ selection }: Restore): string {
  if ('whole' in selection) return 'the whole snapshot'
  const many = selection.tokens.length
  return many === 1 ? '1 file or directory, by token' : `${count(many)} files or directories, by token`
}

function conflictWords(conflict: Restore['conflict']): string {
  return {
    beside: 'it stays, and the restored one lands beside it',
    changed: 'it is replaced where it differs',
    always: 'it is replaced',
    never: 'it stays',
  }[conflict]
}

const ASKS = {
  approve: {
    title: 'Approve this restore?',
    about: 'As the second person you let the controller’s key holder grant it. Your name goes into the record.',
    button: 'Approve',
    kind: '',
  },
  cancel: {
    title: 'Cancel this restore?',
    about: 'The agent stops at the next file. What it restored already stays where it is. This cannot be taken back.',
    button: 'Cancel the restore',
    kind: 'danger',
  },
} as const
export type Ask = keyof typeof ASKS

/** The page that asks before something is done. */
export function askPage(ask: Ask): PageOf {
  return async ({ api, params, visitor, origin }) => {
    const restore = await api.get<Restore>(`/v1/restores/${params['id'] ?? ''}`)
    const [agent, people] = await Promise.all([api.get<Agent>(`/v1/agents/${restore.agentId}`), peopleOf(api, visitor)])
    const { title, about, button, kind } = ASKS[ask]
    const body = html`<p class="crumb"><a href="/restores/${restore.id}">Back to the restore</a></p>
      ${heading(title, restoreBadge(restore.state))}
      ${facts([
        ['Restore', short(restore.id)],
        ['On', html`${agent.host}, root <b>${restore.restoreRoot}</b>`],
        ['What', selectionWords(restore)],
        ['Asked by', actor(restore.requestedBy, people)],
      ])}
      <p class="actions">${about}</p>
      <div class="actions">
        <form method="post" action="/restores/${restore.id}/${ask}"><button class="${kind}">${button}</button></form>
        <a class="button quiet" href="/restores/${restore.id}">No, go back</a>
      </div>
      ${command(apiCall(origin, restore.id, ask), 'The same with an API token')}`
    return { title, here: '/restores', body }
  }
}

/** Does what was asked and confirmed. Gives where to go next. */
export async function doAsk({ api, params }: PageContext, ask: Ask): Promise<string> {
  const id = params['id'] ?? ''
  if (!/^rst_[0-9a-f]{32}$/.test(id)) throw new HoldfastError('not-found', 'no such restore; check the address')
  await api.post(`/v1/restores/${id}/${ask}`)
  return `/restores/${id}`
}

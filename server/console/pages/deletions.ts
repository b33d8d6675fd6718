// Deletions: what signed lists in the stores name, what became of each, and why some are held for the controller. The controller alone approves,
// with its own token, so a page shows how and has no button for it; an administrator can refuse.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Deletion, DeletionState } from '@holdfast/shared/protocol/deletions.ts'
import { DELETION_CODES, DELETION_STATES } from '@holdfast/shared/protocol/deletions.ts'
import type { Agent, Page, Store } from '../api.ts'
import { withQuery } from '../api.ts'
import { actor, at, badge, bytes, count, short } from '../format.ts'
import type { Tone } from '../format.ts'
import { html } from '../html.ts'
import type { Html, Part } from '../html.ts'
import { command, empty, facts, heading, pager, select, table } from '../layout.ts'
import { namesOf, peopleOf } from './context.ts'
import type { PageContext, PageOf } from './context.ts'

const STATES: { readonly [S in DeletionState]: readonly [Tone, string] } = {
  waiting: ['idle', 'Waiting'],
  held: ['bad', 'Held'],
  approved: ['busy', 'Approved'],
  deleting: ['busy', 'Deleting'],
  done: ['good', 'Done'],
  refused: ['idle', 'Refused'],
}

function stateBadge(state: DeletionState): Html {
  return badge(...STATES[state])
}

export const deletionsPage: PageOf = async ({ api, query }) => {
  const { state, cursor } = query
  const [deletions, stores, agents, names] = await Promise.all([
    api.get<Page<Deletion>>('/v1/deletions', { state, cursor, limit: 100 }),
    api.all<Store>('/v1/stores'),
    api.all<Agent>('/v1/agents'),
    namesOf(api),
  ])
  const storeOf = new Map(stores.items.map((store) => [store.id, store.name]))
  const hostOf = new Map(agents.items.map((agent) => [agent.id, agent.host]))
  const columns = [
    { head: 'Deletion' },
    { head: 'State' },
    { head: 'Controller' },
    { head: 'Store' },
    { head: 'Named by' },
    { head: 'When' },
    { head: 'Snapshots', kind: 'num' },
    { head: 'Packs', kind: 'num' },
    { head: 'Removed', kind: 'num' },
    { head: 'Why', kind: 'wide' },
  ] as const
  const body = html`${heading('Deletions', 'what appliances let go by retention, newest first')}
    <form class="filter" method="get" action="/deletions">
      ${select(
        'state',
        'State',
        DELETION_STATES.map((value) => ({ value, word: STATES[value][1] })),
        state,
      )}
      <button class="quiet">Show</button>
    </form>
    ${
      deletions.items.length === 0
        ? empty(
            'No deletion fits.',
            'Lists appear here when a store has delete credentials and an appliance of a policy with retention has named what goes.',
          )
        : table(
            'Deletions',
            columns,
            deletions.items.map((one) => [
              html`<a href="/deletions/${one.id}">${short(one.id)}</a>`,
              stateBadge(one.state),
              names.controllers.get(one.controllerId)?.name ?? short(one.controllerId),
              storeOf.get(one.storeId) ?? short(one.storeId),
              signer(one, hostOf),
              at(one.listedAt),
              count(one.counts.snapshots),
              count(one.counts.packs),
              one.removed === 0 ? html`<span class="none">–</span>` : bytes(one.removedBytes),
              whyOf(one),
            ]),
          )
    }
    ${pager(deletions.next === null ? undefined : withQuery('/deletions', { state, cursor: deletions.next }), cursor === undefined ? undefined : withQuery('/deletions', { state }))}`
  return { title: 'Deletions', here: '/deletions', body, live: cursor === undefined }
}

function signer({ agentId }: Deletion, hostOf: ReadonlyMap<string, string>): Part {
  return agentId === null
    ? html`<span class="none">no agent</span>`
    : html`<a href="/agents/${agentId}">${hostOf.get(agentId) ?? short(agentId)}</a>`
}

function whyOf({ code, why }: Deletion): Part {
  if (code !== null) return DELETION_CODES[code].words
  if (why === null) return html`<span class="none">not looked at yet</span>`
  return why === 'retention' ? 'the policy’s retention' : 'approved by the controller'
}

export const deletionPage: PageOf = async ({ api, params, visitor, origin }) => {
  const one = await api.get<Deletion>(`/v1/deletions/${params['id'] ?? ''}`)
  const [stores, agents, names, people] = await Promise.all([
    api.all<Store>('/v1/stores'),
    api.all<Agent>('/v1/agents'),
    namesOf(api),
    peopleOf(api, visitor),
  ])
  const isOpen = one.state === 'held' || one.state === 'waiting' || one.state === 'approved'
  const canBeApproved = one.state === 'held' && one.reasons.every(({ code }) => DELETION_CODES[code].settled)
  const body = html`<p class="crumb"><a href="/deletions">Deletions</a></p>
    ${heading(html`Deletion ${short(one.id)}`, stateBadge(one.state))}
    ${
      one.reasons.length > 0 &&
      html`<div class="notice ${one.state === 'held' ? 'bad-notice' : 'warn-notice'}">
        <p><b>Nothing more is deleted on this list</b> while this stands:</p>
        <ul>
          ${one.reasons.map(
            (reason) =>
              html`<li>
                <b>${reason.code}</b>: ${reason.detail} (${count(reason.count)}), such as
                ${reason.samples.map((sample, n) => html`${n > 0 && ', '}<code>${sample}</code>`)}
              </li>`,
          )}
        </ul>
      </div>`
    }
    ${facts([
      ['Controller', names.controllers.get(one.controllerId)?.name ?? short(one.controllerId)],
      ['Store', stores.items.find(({ id }) => id === one.storeId)?.name ?? short(one.storeId)],
      ['Named by', signer(one, new Map(agents.items.map((agent) => [agent.id, agent.host])))],
      ['List', html`<code>${one.list}</code>`],
      ['Stored', at(one.listedAt)],
      ['Names', `${count(one.counts.snapshots)} snapshots, ${count(one.counts.packs)} packs, ${count(one.counts.others)} others`],
      ['Waits until', one.waitUntil !== null && at(one.waitUntil)],
      ['Explained by', one.why !== null && whyOf({ ...one, code: null })],
      ['Removed', one.removed > 0 && `${count(one.removed)} objects, ${bytes(one.removedBytes)}`],
      ['Decided by', one.decidedBy !== null && html`${actor(one.decidedBy, people)} ${at(one.decidedAt)}`],
      ['Ended', one.endedAt !== null && at(one.endedAt)],
      ['Id', html`<code>${one.id}</code>`],
    ])}
    ${
      canBeApproved &&
      html`<p class="actions">Only the controller can approve this, with its own API token: it is its order to delete.</p>
        ${command(apiCall(origin, one.id, 'approve'), 'For the controller')}`
    }
    ${
      isOpen &&
      visitor.role === 'administrator' &&
      html`<div class="actions"><a class="button danger" href="/deletions/${one.id}/refuse">Refuse this deletion</a></div>`
    }`
  return { title: 'Deletion', here: '/deletions', body, live: isOpen || one.state === 'deleting' }
}

function apiCall(origin: string, id: string, act: 'approve' | 'refuse'): string {
  return `curl -X POST -H "Authorization: Bearer $TOKEN" ${origin}/v1/deletions/${id}/${act}`
}

/** Asks before a deletion is refused for good. */
export const refuseDeletionPage: PageOf = async ({ api, params, origin }) => {
  const one = await api.get<Deletion>(`/v1/deletions/${params['id'] ?? ''}`)
  const title = 'Refuse this deletion?'
  const body = html`<p class="crumb"><a href="/deletions/${one.id}">Back to the deletion</a></p>
    ${heading(title, stateBadge(one.state))}
    <p class="actions">Nothing is deleted on this list, ever. The appliance names what is left again in a month.</p>
    <div class="actions">
      <form method="post" action="/deletions/${one.id}/refuse"><button class="danger">Refuse</button></form>
      <a class="button quiet" href="/deletions/${one.id}">No, go back</a>
    </div>
    ${command(apiCall(origin, one.id, 'refuse'), 'The same with an API token')}`
  return { title, here: '/deletions', body }
}

/** Refuses what was asked and confirmed. Gives where to go next. */
export async function refuseDeletion({ api, params }: PageContext): Promise<string> {
  const id = params['id'] ?? ''
  if (!/^del_[0-9a-f]{32}$/.test(id)) throw new HoldfastError('not-found', 'no such deletion; check the address')
  await api.post(`/v1/deletions/${id}/refuse`)
  return `/deletions/${id}`
}

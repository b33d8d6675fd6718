// One agent: what is wrong with it, its policies, runs, snapshots and restores, and the facts that tell it apart.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Agent, Page, Policy, Restore, Run, Snapshot, Store } from '../api.ts'
import { STRIP_DAYS } from '../fleet-health.ts'
import { ago, at, badge, bytes, count, ratio, restoreBadge, short } from '../format.ts'
import { html } from '../html.ts'
import type { Html } from '../html.ts'
import { command, empty, facts, heading, table } from '../layout.ts'
import { mayAct, namesOf } from './context.ts'
import type { PageContext, PageOf } from './context.ts'
import { due, lastGood, readHealth, RUNS_MAX_PAGE, stateBadge, strip } from './fleet.ts'
import { runRows, RUN_COLUMNS } from './runs.ts'

export const agentPage: PageOf = async (context) => {
  const { api, limits, params, visitor, query } = context
  const id = params['id'] ?? ''
  const agent = await api.get<Agent>(`/v1/agents/${id}`)
  const [policies, runs, snapshots, restores, stores, names] = await Promise.all([
    api.all<Policy>('/v1/policies', { agentId: agent.id }),
    api.get<Page<Run>>('/v1/runs', { agentId: agent.id, limit: 10 }),
    api.get<Page<Snapshot>>('/v1/snapshots', { agentId: agent.id, limit: 10 }),
    api.get<Page<Restore>>('/v1/restores', { agentId: agent.id, limit: 10 }),
    api.all<Store>('/v1/stores'),
    namesOf(api),
  ])
  const health = await readHealth(api, agent, policies.items, limits, RUNS_MAX_PAGE)
  const storeName = (storeId: string): string => stores.items.find((store) => store.id === storeId)?.name ?? storeId
  const body = html`<p class="crumb"><a href="/fleet">Fleet</a></p>
    ${heading(agent.host, stateBadge(health.state))}
    ${query['asked'] !== undefined && html`<div class="notice" role="status"><p>The agent was asked to back up; it begins when it next asks for work.</p></div>`}
    ${
      health.reasons.length > 0 &&
      html`<div
        class="notice ${health.state === 'incident' || health.state === 'failed' || health.state === 'overdue' ? 'bad-notice' : 'warn-notice'}"
      >
        <ul>
          ${health.reasons.map((reason) => html`<li>${reason}</li>`)}
        </ul>
      </div>`
    }
    ${facts([
      ['Last good backup', lastGood(health, limits)],
      [`Last ${STRIP_DAYS} days`, strip(health.days)],
      ['Protected', health.size === undefined ? html`<span class="none">nothing yet</span>` : bytes(health.size)],
      [
        'Dedup',
        html`${ratio(health.read, health.stored)}<span class="sub">read ${bytes(health.read)}, stored ${bytes(health.stored)}</span>`,
      ],
      ['Last seen', ago(agent.lastSeenAt, limits.now)],
      [
        'Records',
        html`${count(agent.recordedThrough)} checked of ${count(agent.acceptedThrough)} received<span class="sub"
            >${count(agent.journalPending)} wait on the appliance, ${bytes(agent.journalBytes)}</span
          >`,
      ],
      [
        'Controller',
        html`<a href="/controllers/${agent.controllerId}">${names.controllers.get(agent.controllerId)?.name ?? agent.controllerId}</a>`,
      ],
      ['Site', html`${names.sites.get(agent.siteId)?.name ?? '–'}<span class="sub">${agent.region}</span>`],
      ['Sources', agent.sources.length === 0 ? html`<span class="none">none configured</span>` : agent.sources.join(', ')],
      ['Restore roots', agent.restoreRoots.length === 0 ? html`<span class="none">none configured</span>` : agent.restoreRoots.join(', ')],
      ['Domain bundle', agent.bundleVersion === 0 ? badge('warn', 'Not received') : `version ${agent.bundleVersion}`],
      [
        "Keys' fingerprint",
        html`<code>${agent.fingerprint}</code><span class="sub">compare it with the appliance before the bundle is sealed</span>`,
      ],
      ['Version', agent.agentVersion],
      ['Enrolled', at(agent.createdAt)],
      ['Id', html`<code>${agent.id}</code>`],
    ])}
    <h2>Policies</h2>
    ${policies.items.length === 0 ? empty('No policy: nothing of this agent is backed up.', 'Add one with POST /v1/policies.') : policyTable(context, agent, policies.items, storeName)}
    <h2>Newest runs</h2>
    ${
      runs.items.length === 0
        ? empty('No run yet.', 'Runs appear here when the agent has delivered their first record.')
        : html`${table(
              'Newest runs',
              RUN_COLUMNS.filter((column) => column.head !== 'Agent'),
              runRows(runs.items, new Map(), limits.now).map((cells) => cells.filter((_, place) => place !== 1)),
            )}
            <p class="pager">
              <a href="/runs?agentId=${agent.id}">All runs of this agent</a> <a href="/records?agentId=${agent.id}">Its records</a>
            </p>`
    }
    <h2>Newest snapshots</h2>
    ${snapshots.items.length === 0 ? empty('No snapshot yet.', 'A snapshot appears when a run is complete.') : snapshotTable(snapshots.items, storeName)}
    ${
      restores.items.length > 0 &&
      html`<h2>Restores</h2>
        ${table(
          'Restores',
          [{ head: 'Restore' }, { head: 'State' }, { head: 'Asked' }, { head: 'Waits for', kind: 'wide' }],
          restores.items.map((restore) => [
            html`<a href="/restores/${restore.id}">${short(restore.id)}</a>`,
            restoreBadge(restore.state),
            at(restore.createdAt),
            restore.waitingFor ?? html`<span class="none">nobody</span>`,
          ]),
        )}`
    }
    ${mayAct(visitor) && snapshots.items[0] !== undefined && command(`holdfast request ${snapshots.items[0].id} --agent ${agent.id} --to ${agent.restoreRoots[0] ?? 'ROOT'} --instruction ${policies.items[0]?.instructionId ?? 'ins_…'}`, 'To ask for a restore, on the controller’s own machine')}`
  return { title: agent.host, here: '/fleet', body, live: true }
}

function policyTable({ limits, visitor }: PageContext, agent: Agent, policies: readonly Policy[], storeName: (id: string) => string): Html {
  const act = mayAct(visitor) && agent.state === 'active'
  const columns = [
    { head: 'Source' },
    { head: 'When' },
    { head: 'Where to' },
    { head: 'Last good' },
    { head: 'Last run' },
    { head: 'Next due' },
    { head: 'State' },
  ]
  return table(
    'Policies',
    act ? [...columns, { head: 'Act' }] : columns,
    policies.map((policy) => [
      html`<b>${policy.source}</b><span class="sub">${policy.purpose}, version ${policy.version}</span>`,
      scheduleWords(policy.schedule),
      storeName(policy.storeId),
      ago(policy.lastGoodAt, limits.now),
      ago(policy.lastRunAt, limits.now),
      policy.nextDueAt === null ? html`<span class="none">–</span>` : due(policy.nextDueAt, limits.now),
      policy.enabled ? badge('good', 'On') : badge('idle', 'Off'),
      ...(act
        ? [
            policy.enabled
              ? html`<form method="post" action="/agents/${agent.id}/backup-now">
                  <input type="hidden" name="policyId" value="${policy.id}" /><button class="quiet">Back up ${policy.source} now</button>
                </form>`
              : html``,
          ]
        : []),
    ]),
  )
}

function snapshotTable(snapshots: readonly Snapshot[], storeName: (id: string) => string): Html {
  return table(
    'Newest snapshots',
    [
      { head: 'Snapshot' },
      { head: 'Taken' },
      { head: 'Source' },
      { head: 'Files', kind: 'num' },
      { head: 'Size', kind: 'num' },
      { head: 'Newly stored', kind: 'num' },
      { head: 'Store' },
    ],
    snapshots.map((snapshot) => [
      snapshot.contested ? html`${short(snapshot.id)} ${badge('bad', 'Contested')}` : short(snapshot.id),
      at(snapshot.at),
      snapshot.source,
      count(snapshot.files),
      bytes(snapshot.bytes),
      bytes(snapshot.storedBytes),
      storeName(snapshot.storeId),
    ]),
  )
}

/** A schedule in words. */
export function scheduleWords(schedule: Policy['schedule']): string {
  return 'every' in schedule
    ? `every ${schedule.every.replace(/(\d+)(.)/, '$1 $2').replace(' m', ' min')}`
    : `daily at ${schedule.dailyAt}, ${schedule.timeZone}`
}

/** Asks the agent to carry a policy out now. Gives where to go next. */
export async function backupNow({ api, params }: PageContext, body: Readonly<Record<string, string>>): Promise<string> {
  const policyId = body['policyId'] ?? ''
  if (policyId === '') throw new HoldfastError('usage', 'no policy was named; go back and press the button of one')
  await api.post(`/v1/agents/${params['id'] ?? ''}/backup-now`, { policyId })
  return `/agents/${params['id'] ?? ''}?asked=1`
}

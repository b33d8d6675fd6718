// The fleet: one row an agent, worst first, answering three questions: is it protected, since when not, and what is to be done.
import { parseTime } from '@holdfast/shared/clock.ts'
import type { Agent, Api, Policy, Run } from '../api.ts'
import { byWorst, healthOf, STATE_WORDS, STATES, STRIP_DAYS } from '../fleet-health.ts'
import type { Day, Health, HealthState, Limits } from '../fleet-health.ts'
import { ago, badge, bytes, ratio, span } from '../format.ts'
import type { Tone } from '../format.ts'
import { html } from '../html.ts'
import type { Html } from '../html.ts'
import { command, empty, heading, table } from '../layout.ts'
import { namesOf } from './context.ts'
import type { PageOf } from './context.ts'

/** Newest runs that an agent's row is read from: a month of a daily policy many times over, and bounded for busier ones. */
const RUNS_MAX_ROW = 250
/** And for its own page. */
export const RUNS_MAX_PAGE = 1500
/** Agents whose runs are read at a time. */
const AT_ONCE = 8

export const fleetPage: PageOf = async ({ api, limits, query, origin }) => {
  const [fleet, names] = await Promise.all([readFleet(api, limits), namesOf(api)])
  const title = 'Fleet'
  if (fleet.length === 0) {
    const how = html`Make a controller, a site and an enrolment code through the API, then run this on the appliance:
    ${command(`holdfast enroll hf1-… --server ${origin} --domain FINGERPRINT`)}`
    return { title, here: '/fleet', live: true, body: html`${heading(title)}${empty('No appliance is enrolled yet.', how)}` }
  }
  const chosen = STATES.find((state) => state === query['state'])
  const rows = chosen === undefined ? fleet : fleet.filter((one) => one.state === chosen)
  const columns = [
    { head: 'State' },
    { head: 'Agent', kind: 'wrap' },
    { head: 'Last good backup' },
    { head: `Last ${STRIP_DAYS} days` },
    { head: 'Protected', kind: 'num' },
    { head: 'Dedup', kind: 'num' },
    { head: 'Next due' },
    { head: 'What is wrong', kind: 'wide' },
  ] as const
  const body = html`${heading(title, html`${fleet.length} ${fleet.length === 1 ? 'agent' : 'agents'}, worst first`)}
  ${verdict(fleet, chosen)}
  ${table(
    'Agents',
    columns,
    rows.map((one) => [
      stateBadge(one.state),
      html`<a href="/agents/${one.agent.id}"><b>${one.agent.host}</b></a
        ><span class="sub"
          >${names.controllers.get(one.agent.controllerId)?.name ?? '–'} · ${names.sites.get(one.agent.siteId)?.name ?? '–'}</span
        >`,
      lastGood(one, limits),
      strip(one.days),
      one.size === undefined ? html`<span class="none">–</span>` : bytes(one.size),
      html`<span title="read ${bytes(one.read)}, stored ${bytes(one.stored)}">${ratio(one.read, one.stored)}</span>`,
      one.nextDueAt === null ? html`<span class="none">–</span>` : due(one.nextDueAt, limits.now),
      one.reasons.length === 0
        ? html`<span class="none">Nothing</span>`
        : html`<ul>
            ${one.reasons.map((reason) => html`<li>${reason}</li>`)}
          </ul>`,
    ]),
  )}
  ${legend()}`
  return { title, here: '/fleet', body, live: true }
}

/** The health of every agent, worst first. */
export async function readFleet(api: Api, limits: Limits): Promise<Health[]> {
  const [agents, policies] = await Promise.all([api.all<Agent>('/v1/agents'), api.all<Policy>('/v1/policies', {}, 20_000)])
  const found: Health[] = []
  for (let begin = 0; begin < agents.items.length; begin += AT_ONCE) {
    const some = agents.items.slice(begin, begin + AT_ONCE)
    found.push(
      ...(await Promise.all(
        some.map((agent) =>
          readHealth(
            api,
            agent,
            policies.items.filter((policy) => policy.agentId === agent.id),
            limits,
            RUNS_MAX_ROW,
          ),
        ),
      )),
    )
  }
  return found.sort(byWorst)
}

export async function readHealth(api: Api, agent: Agent, policies: readonly Policy[], limits: Limits, max: number): Promise<Health> {
  const runs = await api.all<Run>('/v1/runs', { agentId: agent.id, kind: 'backup' }, max)
  return healthOf(agent, policies, runs.items, limits, runs.more)
}

export function stateBadge(state: HealthState): Html {
  const [tone, word] = STATE_WORDS[state]
  return badge(tone, word)
}

function verdict(fleet: readonly Health[], chosen: HealthState | undefined): Html {
  const active = fleet.filter((one) => one.state !== 'revoked')
  const good = active.filter((one) => one.state === 'protected' || one.state === 'running').length
  const tones = active.map((one) => STATE_WORDS[one.state][0])
  const tone: Tone = tones.includes('bad') ? 'bad' : tones.includes('warn') ? 'warn' : good === active.length ? 'good' : 'idle'
  const words =
    active.length === 0
      ? 'Every agent is revoked; nothing is backed up.'
      : good === active.length
        ? `All ${active.length} agents are protected.`
        : `${good} of ${active.length} ${active.length === 1 ? 'agent is' : 'agents are'} protected.`
  const counts = STATES.map((state) => [state, fleet.filter((one) => one.state === state).length] as const).filter(([, count]) => count > 0)
  return html`<section class="verdict v-${tone}" aria-label="Summary">
    <p>${active.length === 1 && good === 1 ? 'The one agent is protected.' : words}</p>
    <ul>
      ${counts.map(
        ([state, count]) =>
          html`<li>
            <a href="/fleet?state=${state}" ${chosen === state && html` aria-current="true"`}
              >${badge(STATE_WORDS[state][0], `${count} ${STATE_WORDS[state][1].toLowerCase()}`)}</a
            >
          </li>`,
      )}${chosen !== undefined && html`<li><a href="/fleet">Show all</a></li>`}
    </ul>
  </section>`
}

/** Age of the last good backup, beside what the policy promises, in words and as a bar. */
export function lastGood({ lastGoodAt, promiseMs }: Pick<Health, 'lastGoodAt' | 'promiseMs'>, { now, graceMs }: Limits): Html {
  if (promiseMs === undefined) return html`${ago(lastGoodAt, now)}<span class="sub">no policy</span>`
  if (lastGoodAt === null) return html`${ago(null, now)}<span class="sub">promised every ${span(promiseMs)}</span>`
  const age = now - parseTime(lastGoodAt)
  const late = age > promiseMs + graceMs
  const width = Math.max(2, Math.min(104, Math.round((104 * age) / promiseMs)))
  return html`<span${late && html` class="bad"`}>${ago(lastGoodAt, now)}</span
><svg class="age" viewBox="0 0 104 4" width="104" height="4" aria-hidden="true"><rect class="track" width="104" height="4" rx="2" /><rect class="fill${late && ' late'}" width="${width}" height="4" rx="2" /></svg
><span class="sub">promised every ${span(promiseMs)}</span>`
}

export function due(iso: string, now: number): Html {
  return parseTime(iso) < now ? html`<span class="soft">due since </span>${span(now - parseTime(iso))}` : ago(iso, now)
}

const DAY_WORDS: { readonly [S in Day['state']]: string } = {
  good: 'good',
  incomplete: 'incomplete',
  failed: 'failed',
  overdue: 'overdue',
  none: 'no run',
  unread: 'not read here: its own page goes further back',
}
/** From one bar to the next. */
const PITCH = 5
const HEIGHTS: { readonly [S in Day['state']]: number } = { good: 20, incomplete: 13, failed: 20, overdue: 19, none: 2, unread: 0 }

/** Thirty days as bars, which differ by height and fill as well as by colour. */
export function strip(days: readonly Day[]): Html {
  const counts = (['good', 'incomplete', 'failed', 'overdue'] as const)
    .map((state) => [state, days.filter((day) => day.state === state).length] as const)
    .filter(([, count]) => count > 0)
  const words =
    counts.length === 0
      ? 'no run in 30 days'
      : counts.map(([state, count]) => `${count} ${count === 1 ? 'day' : 'days'} ${DAY_WORDS[state]}`).join(', ')
  return html`<svg
    class="strip"
    role="img"
    aria-label="${words}"
    viewBox="0 0 ${days.length * PITCH} 20"
    width="${days.length * PITCH}"
    height="20"
  >
    ${days.map((day, at) => bar(day, at))}
  </svg>`
}

function bar(day: Day, at: number): Html {
  const height = HEIGHTS[day.state]
  const title = html`<title>${day.date}: ${DAY_WORDS[day.state]}</title>`
  const [x, y] = [at * PITCH, 20 - height]
  if (day.state === 'failed')
    return html`<g class="d-failed"
      >${title}<rect x="${x}" y="0" width="3.4" height="11" rx="1" /><rect x="${x}" y="16" width="4" height="4" rx="1"
    /></g>`
  if (day.state === 'overdue') return html`<rect class="d-overdue" x="${x + 0.5}" y=".6" width="2.4" height="18.8" rx="1">${title}</rect>`
  return html`<rect class="d-${day.state}" x="${x}" y="${y}" width="3.4" height="${height}" rx="1">${title}</rect>`
}

function legend(): Html {
  const states = ['good', 'incomplete', 'failed', 'overdue', 'none'] as const
  return html`<ul class="legend">
    ${states.map(
      (state) =>
        html`<li>
          <svg class="strip" viewBox="0 0 4 20" width="4" height="20" aria-hidden="true">${bar({ date: '', state }, 0)}</svg
          >${DAY_WORDS[state]}
        </li>`,
    )}
    <li>Times and days are in UTC. Sizes are rounded up by the agent, so that they tell less.</li>
  </ul>`
}

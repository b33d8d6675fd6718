// Controllers: whose data it is, where it may go, on which instructions, and which policies carry them out.
import { isoTime } from '@holdfast/shared/clock.ts'
import type { Agent, Controller, Instruction, Policy, Site, Store } from '../api.ts'
import { ago, at, badge, count, short } from '../format.ts'
import { html } from '../html.ts'
import { empty, facts, heading, table } from '../layout.ts'
import { scheduleWords } from './agent.ts'
import type { PageOf } from './context.ts'

export const controllersPage: PageOf = async ({ api }) => {
  const [controllers, agents, stores, policies] = await Promise.all([
    api.all<Controller>('/v1/controllers'),
    api.all<Agent>('/v1/agents'),
    api.all<Store>('/v1/stores'),
    api.all<Policy>('/v1/policies', {}, 20_000),
  ])
  const body = html`${heading('Controllers', 'whose data it is')}
  ${
    controllers.items.length === 0
      ? empty('No controller yet.', 'Add the first one with POST /v1/controllers.')
      : table(
          'Controllers',
          [
            { head: 'Controller' },
            { head: 'Agents', kind: 'num' },
            { head: 'Policies', kind: 'num' },
            { head: 'Stores', kind: 'wrap' },
            { head: 'Countries allowed' },
            { head: 'Restores need' },
            { head: 'Since' },
          ],
          controllers.items.map((one) => [
            html`<a href="/controllers/${one.id}"><b>${one.name}</b></a>`,
            count(agents.items.filter((agent) => agent.controllerId === one.id && agent.state === 'active').length),
            count(policies.items.filter((policy) => policy.controllerId === one.id && policy.enabled).length),
            stores.items
              .filter((store) => store.controllerId === one.id)
              .map((store) => store.name)
              .join(', ') || '–',
            countries(one),
            one.approval === 'second-person' ? 'a second person' : 'the grant alone',
            at(one.createdAt),
          ]),
        )
  }`
  return { title: 'Controllers', here: '/controllers', body }
}

function countries(controller: Controller): string {
  return controller.countries.length === 0 ? 'no rule' : controller.countries.join(', ')
}

export const controllerPage: PageOf = async ({ api, params, limits }) => {
  const one = await api.get<Controller>(`/v1/controllers/${params['id'] ?? ''}`)
  const [agents, sites, stores, instructions, policies] = await Promise.all([
    api.all<Agent>('/v1/agents', { controllerId: one.id }),
    api.all<Site>('/v1/sites'),
    api.all<Store>('/v1/stores'),
    api.all<Instruction>('/v1/instructions'),
    api.all<Policy>('/v1/policies', {}, 20_000),
  ])
  const mine = <T extends { readonly controllerId: string }>(items: readonly T[]): T[] =>
    items.filter((item) => item.controllerId === one.id)
  const hosts = new Map(agents.items.map((agent) => [agent.id, agent.host]))
  const storeNames = new Map(stores.items.map((store) => [store.id, store.name]))
  const body = html`<p class="crumb"><a href="/controllers">Controllers</a></p>
    ${heading(one.name)}
    ${facts([
      ['Countries allowed', countries(one)],
      ['Restores need', one.approval === 'second-person' ? 'a second person, then the grant' : 'the grant of its key holder'],
      ['Roster', one.rosterVersion === 0 ? badge('warn', 'Not received') : `version ${one.rosterVersion}`],
      ['Since', at(one.createdAt)],
      ['Records', html`<a href="/records?controllerId=${one.id}">Show its records</a>`],
      ['Id', html`<code>${one.id}</code>`],
    ])}
    <h2>Agents</h2>
    ${
      agents.items.length === 0
        ? empty('No agent.', 'Make an enrolment code with POST /v1/enrolment-codes and use it on the appliance.')
        : table(
            'Agents',
            [{ head: 'Agent' }, { head: 'State' }, { head: 'Region' }, { head: 'Last seen' }],
            agents.items.map((agent) => [
              html`<a href="/agents/${agent.id}">${agent.host}</a>`,
              agent.state === 'active' ? badge('good', 'Enrolled') : badge('idle', 'Revoked'),
              agent.region,
              ago(agent.lastSeenAt, limits.now),
            ]),
          )
    }
    <h2>Sites</h2>
    ${
      mine(sites.items).length === 0
        ? empty('No site.', 'Add one with POST /v1/sites.')
        : table(
            'Sites',
            [{ head: 'Site' }, { head: 'Region' }, { head: 'Since' }],
            mine(sites.items).map((site) => [site.name, site.region, at(site.createdAt)]),
          )
    }
    <h2>Stores</h2>
    ${
      mine(stores.items).length === 0
        ? empty('No store: there is nowhere to back up to.', 'Add one with POST /v1/stores.')
        : table(
            'Stores',
            [
              { head: 'Store' },
              { head: 'Kind' },
              { head: 'Region' },
              { head: 'Country' },
              { head: 'Where', kind: 'wrap' },
              { head: 'Credentials' },
            ],
            mine(stores.items).map((store) => [
              html`<b>${store.name}</b>`,
              store.kind === 's3' ? 'S3' : 'directory on the appliance',
              store.region,
              html`${store.country}${one.countries.length > 0 && !one.countries.includes(store.country) && html` ${badge('bad', 'Not allowed')}`}`,
              store.kind === 's3'
                ? html`${store.endpoint}<span class="sub">${store.bucket}/${store.prefix}</span>`
                : html`<span class="none">set on the appliance</span>`,
              store.hasCredentials ? 'kept here, sealed' : 'on the appliance',
            ]),
          )
    }
    <h2>Instructions</h2>
    ${
      mine(instructions.items).length === 0
        ? empty('No instruction: nothing may be done with this data.', 'Add one with POST /v1/instructions.')
        : table(
            'Instructions',
            [
              { head: 'Instruction' },
              { head: 'Kind' },
              { head: 'Author' },
              { head: 'Came by' },
              { head: 'Purposes', kind: 'wrap' },
              { head: 'Valid' },
              { head: 'Hash of the text' },
              { head: 'Entered by' },
            ],
            mine(instructions.items).map((instruction) => [
              short(instruction.id),
              instruction.kind === 'standing' ? 'standing' : 'single request',
              instruction.author,
              instruction.channel,
              instruction.purposes.join(', '),
              instruction.validTo !== null && instruction.validTo <= isoTime(limits.now)
                ? badge('idle', 'Ended')
                : html`${at(instruction.validFrom)}<span class="sub"
                      >${instruction.validTo === null ? 'without end' : html`until ${at(instruction.validTo)}`}</span
                    >`,
              short(instruction.textHash),
              instruction.enteredByProcessor ? 'the processor' : 'the controller',
            ]),
          )
    }
    <h2>Policies</h2>
    ${
      mine(policies.items).length === 0
        ? empty('No policy: nothing is backed up.', 'Add one with POST /v1/policies.')
        : table(
            'Policies',
            [
              { head: 'Source' },
              { head: 'Agent' },
              { head: 'When' },
              { head: 'Store' },
              { head: 'Instruction' },
              { head: 'Last good' },
              { head: 'State' },
            ],
            mine(policies.items).map((policy) => [
              html`<b>${policy.source}</b>`,
              html`<a href="/agents/${policy.agentId}">${hosts.get(policy.agentId) ?? short(policy.agentId)}</a>`,
              scheduleWords(policy.schedule),
              storeNames.get(policy.storeId) ?? short(policy.storeId),
              short(policy.instructionId),
              ago(policy.lastGoodAt, limits.now),
              policy.enabled ? badge('good', 'On') : badge('idle', 'Off'),
            ]),
          )
    }`
  return { title: one.name, here: '/controllers', body }
}

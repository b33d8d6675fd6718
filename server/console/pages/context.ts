// What every page is given: the API as the visitor may use it, who the visitor is, the server's clock and limits, and the page's query.
import type { Api, ApiToken, Controller, Site, User } from '../api.ts'
import type { Limits } from '../fleet-health.ts'
import type { People } from '../format.ts'
import type { Part } from '../html.ts'
import type { Visitor } from '../layout.ts'

export type PageContext = {
  readonly api: Api
  readonly visitor: Visitor
  readonly limits: Limits
  /** The address that people and programs reach this server by. */
  readonly origin: string
  readonly params: Readonly<Record<string, string>>
  readonly query: Readonly<Record<string, string | undefined>>
}

export type Rendered = { readonly title: string; readonly here: string; readonly body: Part; readonly live?: boolean }
export type PageOf = (context: PageContext) => Promise<Rendered>

/** Controllers and sites by id, for their names. */
export async function namesOf(api: Api): Promise<{ controllers: Map<string, Controller>; sites: Map<string, Site> }> {
  const [controllers, sites] = await Promise.all([api.all<Controller>('/v1/controllers'), api.all<Site>('/v1/sites')])
  return {
    controllers: new Map(controllers.items.map((item) => [item.id, item])),
    sites: new Map(sites.items.map((item) => [item.id, item])),
  }
}

/** Names of people and API tokens: administrators may know them, others see ids. */
export async function peopleOf(api: Api, visitor: Visitor): Promise<People> {
  if (visitor.role !== 'administrator') return { self: visitor.id, names: new Map() }
  const [users, tokens] = await Promise.all([api.all<User>('/v1/users'), api.all<ApiToken>('/v1/api-tokens')])
  return {
    self: visitor.id,
    names: new Map([
      ...users.items.map((user) => [user.id, user.userName] as const),
      ...tokens.items.map((token) => [token.id, token.name] as const),
    ]),
  }
}

/** True where this role may approve, cancel and start things; the API decides in the end. */
export function mayAct(visitor: Visitor): boolean {
  return visitor.role !== 'auditor'
}

// Who asks, and what a route lets them do: one table, deny by default. A controller's token sees its own controller and nothing else.
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { AgentRow } from './records/rows.ts'

export type Principal =
  | {
      readonly kind: 'user'
      readonly id: string
      readonly userName: string
      readonly role: 'administrator' | 'operator' | 'auditor'
      readonly sessionId: string
    }
  | {
      readonly kind: 'token'
      readonly id: string
      readonly role: 'operator' | 'auditor' | 'controller'
      readonly controllerId: string | null
    }
  | { readonly kind: 'agent'; readonly id: string; readonly role: 'agent'; readonly controllerId: string; readonly agent: AgentRow }

export type Role = Principal['role']

/** What a route needs. `public` routes check by themselves whatever they need. */
export type Access = 'public' | 'session' | 'read' | 'operate' | 'request' | 'controller' | 'dispose' | 'administer' | 'agent'

export const ALLOWED: { readonly [A in Access]: readonly Role[] | 'anyone' } = {
  public: 'anyone',
  session: ['administrator', 'operator', 'auditor'],
  read: ['administrator', 'operator', 'auditor', 'controller'],
  operate: ['administrator', 'operator'],
  request: ['administrator', 'operator', 'controller'],
  controller: ['controller'],
  /** What bears on deleting a controller's data: by itself, or by the one person who answers for the server. */
  dispose: ['administrator', 'controller'],
  administer: ['administrator'],
  agent: ['agent'],
}

/** Passes, or rejects with `unauthenticated` (nobody) or `forbidden` (somebody who may not). */
export function authorize(access: Access, principal: Principal | undefined): void {
  const allowed = ALLOWED[access]
  if (allowed === 'anyone') return
  if (principal === undefined) throw new HoldfastError('unauthenticated', 'this needs a log-in, an API token or an agent; send one')
  if (!allowed.includes(principal.role) || (access === 'session' && principal.kind !== 'user')) {
    throw new HoldfastError('forbidden', 'this identity may not do this; ask somebody whose role allows it')
  }
}

/** The controller that a principal is bound to; undefined for the processor's own people and tokens. */
export function boundController(principal: Principal | undefined): string | undefined {
  if (principal === undefined) throw new HoldfastError('unauthenticated', 'this needs a log-in or an API token')
  return principal.kind === 'user' ? undefined : (principal.controllerId ?? undefined)
}

/** The row, where the principal may know of it; `not-found` otherwise, so that foreign ids tell nothing. */
export function visible<T extends { readonly controllerId: string }>(
  principal: Principal | undefined,
  row: T | undefined,
  what: string,
): T {
  const bound = boundController(principal)
  if (row === undefined || (bound !== undefined && row.controllerId !== bound))
    throw new HoldfastError('not-found', `no such ${what}; check the id`)
  return row
}

/** How a principal is named in audit lines and records. */
export function actorOf(principal: Principal): string {
  return `${principal.kind}:${principal.id}`
}

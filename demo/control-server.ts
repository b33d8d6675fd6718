// The demonstration's client of the control server's API: logs in as the administrator did at `init`, and sets a customer up.
import { createHash } from 'node:crypto'
import { systemClock } from '@holdfast/shared/clock.ts'
import { TOTP, URI } from 'otpauth'

export type Administrator = { readonly userName: string; readonly password: string; readonly otpauth: string }

export type Api = {
  readonly get: <T>(path: string) => Promise<T>
  readonly post: <T>(path: string, body: unknown) => Promise<T>
}

/** The six digits that an authenticator would show now. */
export function codeNow(administrator: Administrator): string {
  const totp = URI.parse(administrator.otpauth)
  if (!(totp instanceof TOTP)) throw new Error('the one-time code of the administrator is of a kind that this demonstration does not know')
  return totp.generate({ timestamp: systemClock.now() })
}

async function call<T>(
  url: string,
  path: string,
  init: { method: 'GET' | 'POST'; headers: Record<string, string>; body?: unknown },
): Promise<{ json: T; cookie: string }> {
  const reply = await fetch(`${url}${path}`, {
    method: init.method,
    headers: { ...init.headers, ...(init.body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(init.body === undefined ? {} : { body: JSON.stringify(init.body) }),
  })
  const text = await reply.text()
  if (!reply.ok) throw new Error(`${init.method} ${path} was answered ${reply.status}: ${text}`)
  return {
    json: JSON.parse(text) as T,
    cookie: reply.headers
      .getSetCookie()
      .map((cookie) => cookie.split(';')[0]!)
      .join('; '),
  }
}

/** Waits until the server says that it is ready. */
export async function untilReady(url: string, alive: () => boolean): Promise<void> {
  for (let tries = 0; tries < 300 && alive(); tries++) {
    try {
      if ((await fetch(`${url}/readyz`)).ok) return
    } catch (error) {
      // Not listening yet.
      if (!(error instanceof TypeError)) throw error
    }
    await systemClock.sleep(100)
  }
  throw new Error('the control server did not come up')
}

export async function logIn(url: string, administrator: Administrator): Promise<Api> {
  const headers = { origin: url, 'x-holdfast': '1' }
  const { userName, password } = administrator
  const { cookie } = await call(url, '/v1/log-in', { method: 'POST', headers, body: { userName, password, code: codeNow(administrator) } })
  return {
    get: async (path) => (await call<never>(url, path, { method: 'GET', headers: { cookie } })).json,
    post: async (path, body) => (await call<never>(url, path, { method: 'POST', headers: { ...headers, cookie }, body })).json,
  }
}

export type Customer = {
  readonly controllerId: string
  readonly storeId: string
  readonly instructionId: string
  readonly enrolmentCode: string
  /** The controller's own token: acts for that controller alone. */
  readonly token: string
}

/** A customer with a site, a store, a documented instruction, a token of its own and a code for its appliance. */
export async function setUpCustomer(api: Api, store: { endpoint: string; bucket: string } | undefined): Promise<Customer> {
  const { id: controllerId } = await api.post<{ id: string }>('/v1/controllers', { name: 'Demonstration customer', countries: ['CA'] })
  const { id: siteId } = await api.post<{ id: string }>('/v1/sites', { controllerId, name: 'Head office', region: 'CA-QC' })
  const where = { controllerId, name: 'Demonstration store', region: 'CA-ON', country: 'CA' }
  const { id: storeId } = await api.post<{ id: string }>(
    '/v1/stores',
    store === undefined ? { ...where, kind: 'directory' } : { ...where, kind: 's3', ...store },
  )
  const { id: instructionId } = await api.post<{ id: string }>('/v1/instructions', {
    controllerId,
    kind: 'standing',
    author: 'The customer’s representative',
    channel: 'contract',
    scope: {},
    purposes: ['backup', 'restore', 'restore-test'],
    textHash: createHash('sha256').update('Back up the source "documents" and restore it when we ask for it.').digest('hex'),
  })
  const { code } = await api.post<{ code: string }>('/v1/enrolment-codes', { controllerId, siteId })
  const { token } = await api.post<{ token: string }>('/v1/api-tokens', { name: 'Key holder of the customer', scope: { controllerId } })
  return { controllerId, storeId, instructionId, enrolmentCode: code, token }
}

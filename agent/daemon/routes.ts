// Where the agent's requests go on the control server. One list, so that the paths that are signed stand in one place.
import { RECORDS_CONTENT_TYPE } from '@holdfast/shared/protocol/records.ts'

export const AGENT_ROUTES = {
  enroll: { method: 'POST', path: '/v1/agent/enroll' },
  poll: { method: 'POST', path: '/v1/agent/poll' },
  policies: { method: 'GET', path: '/v1/agent/policies' },
  bundle: { method: 'GET', path: '/v1/agent/bundle' },
  roster: { method: 'GET', path: '/v1/agent/roster' },
  records: { method: 'POST', path: '/v1/agent/records' },
  runs: { method: 'POST', path: '/v1/agent/runs' },
  snapshots: { method: 'POST', path: '/v1/agent/snapshots' },
} as const

/** The routes of one restore. `restoreId` is an identifier, so it needs no escaping. */
export function restoreRoutes(restoreId: string) {
  const base = `/v1/agent/restores/${restoreId}`
  return {
    key: { method: 'PUT', path: `${base}/key` },
    grant: { method: 'GET', path: `${base}/grant` },
    progress: { method: 'POST', path: `${base}/progress` },
    result: { method: 'POST', path: `${base}/result` },
  } as const
}

/** The routes of needs statements in one store, and of one series there. All parts are identifiers or hex. */
export function needsRoutes(storeId: string, series = '') {
  return {
    state: { method: 'POST', path: '/v1/agent/needs' },
    stand: { method: 'GET', path: `/v1/agent/needs/${storeId}/${series}` },
    needed: { method: 'POST', path: '/v1/agent/needed' },
    forgotten: { method: 'PUT', path: `/v1/agent/forgotten/${storeId}` },
  } as const
}

export { RECORDS_CONTENT_TYPE }

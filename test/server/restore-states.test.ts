// The restore's state machine as a table: every event from every state, and every other one leads nowhere.
import { expect, it } from 'vitest'
import { RESTORE_STATES } from '@holdfast/shared/protocol/restores.ts'
import type { RestoreState } from '@holdfast/shared/protocol/restores.ts'
import { isEnd, moveOf, statesFor, waitingFor } from 'holdfast-server/restore-states.ts'
import type { RestoreEvent } from 'holdfast-server/restore-states.ts'

const EVENTS: readonly RestoreEvent[] = [
  'needs-approval',
  'prepare',
  'approve',
  'reject',
  'key-received',
  'grant-received',
  'started',
  'lease-lost',
  'completed',
  'completed-with-errors',
  'failed',
  'cancel',
  'expire',
]
const OPEN: readonly RestoreState[] = ['requested', 'awaiting_approval', 'preparing', 'awaiting_grant', 'granted', 'running']
const LEGAL: Readonly<Record<string, RestoreState>> = {
  'requested needs-approval': 'awaiting_approval',
  'requested prepare': 'preparing',
  'awaiting_approval approve': 'preparing',
  'awaiting_approval reject': 'refused',
  'preparing prepare': 'preparing',
  'preparing key-received': 'awaiting_grant',
  'awaiting_grant grant-received': 'granted',
  'awaiting_grant reject': 'refused',
  'granted started': 'running',
  'granted lease-lost': 'granted',
  'running lease-lost': 'granted',
  'running completed': 'completed',
  'running completed-with-errors': 'completed_with_errors',
  ...Object.fromEntries(
    OPEN.flatMap((state) => [
      [`${state} cancel`, 'cancelled'],
      [`${state} expire`, 'expired'],
      [`${state} failed`, 'failed'],
    ]),
  ),
}

it.each(RESTORE_STATES.flatMap((state) => EVENTS.map((event) => [state, event] as const)))(
  '%s on %s leads where the table says',
  (state, event) => {
    expect(moveOf(state, event)).toBe(LEGAL[`${state} ${event}`])
  },
)

it('every open state can be cancelled and expires, and no end can be left', () => {
  expect(statesFor('cancel')).toEqual([...OPEN])
  expect(statesFor('expire')).toEqual([...OPEN])
  expect(RESTORE_STATES.filter(isEnd)).toEqual(RESTORE_STATES.filter((state) => !OPEN.includes(state)))
})

it('says whom it waits for while it waits for somebody', () => {
  expect(RESTORE_STATES.filter((state) => waitingFor(state) !== null)).toEqual(OPEN.slice(0, 5))
})

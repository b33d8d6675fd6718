// The life of a restore request as a pure state machine: which event leads where, and nothing else does.
import type { RestoreState } from '@holdfast/shared/protocol/restores.ts'

export type RestoreEvent =
  | 'needs-approval'
  | 'prepare'
  | 'approve'
  | 'reject'
  | 'key-received'
  | 'grant-received'
  | 'started'
  | 'lease-lost'
  | 'completed'
  | 'completed-with-errors'
  | 'failed'
  | 'cancel'
  | 'expire'

/** Every legal move. What is not here is refused. */
const MOVES: { readonly [S in RestoreState]: { readonly [E in RestoreEvent]?: RestoreState } } = {
  requested: { 'needs-approval': 'awaiting_approval', prepare: 'preparing', cancel: 'cancelled', expire: 'expired', failed: 'failed' },
  awaiting_approval: { approve: 'preparing', reject: 'refused', cancel: 'cancelled', expire: 'expired', failed: 'failed' },
  // Prepared, or given out, once more where the agent took the command and was not heard of again.
  preparing: { prepare: 'preparing', 'key-received': 'awaiting_grant', cancel: 'cancelled', expire: 'expired', failed: 'failed' },
  awaiting_grant: { 'grant-received': 'granted', reject: 'refused', cancel: 'cancelled', expire: 'expired', failed: 'failed' },
  granted: { started: 'running', 'lease-lost': 'granted', cancel: 'cancelled', expire: 'expired', failed: 'failed' },
  running: {
    'lease-lost': 'granted',
    completed: 'completed',
    'completed-with-errors': 'completed_with_errors',
    failed: 'failed',
    cancel: 'cancelled',
    expire: 'expired',
  },
  completed: {},
  completed_with_errors: {},
  failed: {},
  cancelled: {},
  expired: {},
  refused: {},
}

/** Where `event` leads from `state`; undefined where it leads nowhere. */
export function moveOf(state: RestoreState, event: RestoreEvent): RestoreState | undefined {
  return MOVES[state][event]
}

/** The states from which `event` leads somewhere. */
export function statesFor(event: RestoreEvent): RestoreState[] {
  return (Object.keys(MOVES) as RestoreState[]).filter((state) => MOVES[state][event] !== undefined)
}

/** True where nothing can happen any more. */
export function isEnd(state: RestoreState): boolean {
  return Object.keys(MOVES[state]).length === 0
}

/** Whom or what a restore waits for, for people; null at its end and while it is at work. */
export function waitingFor(state: RestoreState): string | null {
  switch (state) {
    case 'requested':
      return 'the control server, which is about to begin'
    case 'awaiting_approval':
      return 'a second person to approve it'
    case 'preparing':
      return 'the agent, which makes a key for this restore when it next asks for work'
    case 'awaiting_grant':
      return "the controller's key holder, who runs holdfast grant on the controller's own machine"
    case 'granted':
      return 'the agent, which begins when it next asks for work'
    default:
      return null
  }
}

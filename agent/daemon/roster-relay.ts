// The roster of the domain's agents, as the server relays it from the controller: checked with the domain's keys, kept, and put into the
// repository where a newer one than it has came, so that what this agent writes is accepted by the others. The server cannot make one.
import { createHash } from 'node:crypto'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { ROSTER_BYTES_MAX } from '@holdfast/shared/protocol/agent.ts'
import type { StructureKeys } from '../keys/keys.ts'
import { parseRosterBody, type Roster } from '../keys/roster.ts'
import { objectName } from '@holdfast/shared/format/layout.ts'
import type { Repository } from '../repository/repository.ts'
import { openBox } from '../repository/structure-box.ts'
import type { AgentState } from './agent-state.ts'

const ROSTER_FILE = 'roster'

/** Reads a relayed roster. Throws `damaged` or `wrong-key` for one that the domain signing key did not sign. */
export function openRoster(object: Buffer, keys: StructureKeys): Roster {
  const what = 'the relayed roster'
  return parseRosterBody(openBox({ type: 'roster', keys, object, what }), keys, what)
}

/** Keeps a relayed roster for the next run. Throws as `openRoster`; `conflict` where it is older than the one at hand. */
export function saveRoster(state: AgentState, object: Buffer, keys: StructureKeys): void {
  const roster = openRoster(object, keys)
  const kept = loadRoster(state)
  if (kept !== undefined && openRoster(kept, keys).number > roster.number)
    throw new HoldfastError('conflict', 'the server relayed an older roster than it did before; it was not used')
  state.directory.write(ROSTER_FILE, object)
}

function loadRoster(state: AgentState): Buffer | undefined {
  return state.directory.read(ROSTER_FILE, ROSTER_BYTES_MAX)
}

/** Puts the kept roster into the repository unless that has one as new. The name follows from the content, so doing it twice does nothing. */
export async function publishRoster(state: AgentState, repository: Repository): Promise<void> {
  const object = loadRoster(state)
  if (object === undefined) return
  const roster = openRoster(object, repository.keys)
  if (repository.roster !== undefined && repository.roster.number >= roster.number) return
  const name = createHash('sha256').update(object).digest('hex')
  await repository.store.put(objectName('roster', { session: name.slice(0, 32), random: name.slice(32) }), { kind: 'bytes', bytes: object })
}

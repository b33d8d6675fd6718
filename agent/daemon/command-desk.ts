// Takes commands from poll replies, has them done, and keeps the answers until the server has heard them. A command that is not perfectly as it
// must be changes nothing and, unless this server signed it for this agent, is not even answered.
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Log } from '@holdfast/shared/log.ts'
import type { PollRequest } from '@holdfast/shared/protocol/agent.ts'
import type { Command } from '@holdfast/shared/protocol/commands.ts'
import type { Agent } from './agent-state.ts'
import { openCommand, type TakenCommands } from './commands.ts'
import { requestedCancel } from './parts.ts'
import type { RestoreRequests } from './restore-requests.ts'
import type { ServerClient } from './server-client.ts'
import type { Work } from './work.ts'

const ANSWERS_AT_ONCE = 64

type Answer = PollRequest['acknowledged'][number]

export type CommandDesk = {
  /** One item of a poll reply, as it came. Throws only `local-disk`. */
  readonly take: (item: unknown) => void
  /** What the next poll shall tell. */
  readonly answers: () => Answer[]
  /** The server has heard these. */
  readonly told: (answers: readonly Answer[]) => void
}

export function commandDesk(options: {
  agent: Agent
  client: ServerClient
  requests: RestoreRequests
  work: Work
  taken: TakenCommands
  log: Log
  canRestore: () => boolean
  /** Something is to be done or sent now. */
  took: () => void
}): CommandDesk {
  const { agent, client, requests, work, taken, log } = options
  let answers: readonly Answer[] = []

  const act = (command: Command): void => {
    if (command.kind === 'prepare-restore') {
      if (!options.canRestore()) throw new HoldfastError('policy', 'this agent has no domain bundle yet, so it can restore nothing')
      requests.prepare(command.body)
    } else if (command.kind === 'backup-now') work.ask(command.body.policyId)
    else if (command.kind === 'cancel') cancel(command.body)
    else if (command.kind === 'restore') {
      const accepted = requests.accept(command.body)
      // One that ended already is answered with its result, which waits to be sent.
      if ('keyPair' in accepted) work.restore(command.body, accepted.keyPair)
    }
    // `update-policies` needs nothing more: the versions in every reply say what to fetch.
    options.took()
  }

  const cancel = (body: Extract<Command, { kind: 'cancel' }>['body']): void => {
    if ('runId' in body) work.cancel(body.runId, requestedCancel(`run ${body.runId}`))
    else {
      work.cancel(body.restoreId, requestedCancel(`restore ${body.restoreId}`))
      requests.drop(body.restoreId)
    }
  }

  const refused = (error: HoldfastError): void => log.warn('command-refused', { agentId: agent.agentId, code: error.code })

  return {
    take: (item) => {
      let command: Command
      try {
        command = openCommand(item, { agentId: agent.agentId, serverKey: agent.serverKey, nowMs: client.serverNow() })
      } catch (error) {
        if (!isHoldfastError(error)) throw error
        return refused(error)
      }
      const answer = (result: Answer['result'], code?: string): void => {
        const others = answers.filter(({ commandId }) => commandId !== command.id)
        answers = [...others, { commandId: command.id, result, ...(code === undefined ? {} : { code }) }]
      }
      if (taken.has(command)) return answer('taken')
      try {
        taken.requireRoom(client.serverNow())
        // Done first, then remembered: what a crash between the two makes it do again has the same effect once more.
        act(command)
        taken.take(command, client.serverNow())
        answer('taken')
      } catch (error) {
        if (!isHoldfastError(error) || error.code === 'local-disk') throw error
        refused(error)
        answer('refused', error.code)
      }
    },
    answers: () => answers.slice(0, ANSWERS_AT_ONCE),
    told: (heard) => {
      answers = answers.filter((answer) => !heard.includes(answer))
    },
  }
}

// Commands from the server: a closed, signed set with expiry. Each is read strictly and taken at most once; one that is not perfectly as it
// must be changes nothing here.
import { parseTime } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Json } from '@holdfast/shared/canonical-json.ts'
import { signedCommand, type Command } from '@holdfast/shared/protocol/commands.ts'
import { commandBytes, REQUEST_WINDOW_MS } from '@holdfast/shared/protocol/signatures.ts'
import { verifySignature } from '@holdfast/shared/signing.ts'
import type { StateFile, takenCommands } from './agent-state.ts'
import type { z } from 'zod'

/** No command lives longer; so what was taken can be forgotten after a time. */
export const COMMAND_LIFE_MS = 31 * 24 * 3_600_000
const TAKEN_MAX = 10_000

/**
 * The command of a poll reply's item. Throws `server-untrusted` for one that is malformed or not signed by the pinned server, `policy` for one
 * that is for another agent, expired or not yet made.
 */
export function openCommand(item: unknown, expect: { agentId: string; serverKey: Uint8Array; nowMs: number }): Command {
  const parsed = signedCommand.safeParse(item)
  if (!parsed.success)
    throw new HoldfastError(
      'server-untrusted',
      'a command came that this version does not know or that is malformed; nothing of it was done',
      {
        cause: parsed.error,
      },
    )
  const { command, signature } = parsed.data
  const bytes = Buffer.from(signature, 'base64url')
  if (bytes.toString('base64url') !== signature || !verifySignature(expect.serverKey, commandBytes(command as Json), bytes))
    throw new HoldfastError('server-untrusted', `command ${command.id} is not signed by this agent's server; it was not carried out`)
  const refuse = (why: string): HoldfastError => new HoldfastError('policy', `command ${command.id} ${why}; it was not carried out`)
  if (command.agentId !== expect.agentId) throw refuse('is for another agent')
  const [issued, expires] = [parseTime(command.issuedAt), parseTime(command.expiresAt)]
  // Written so that a time that is no time is refused too.
  if (!(expires > expect.nowMs)) throw refuse('has expired')
  if (!(issued <= expect.nowMs + REQUEST_WINDOW_MS)) throw refuse('was issued in the future')
  if (!(issued < expires) || expires - issued > COMMAND_LIFE_MS) throw refuse('has a life that cannot be')
  return command
}

/** Remembers durably which commands were taken, over restarts. */
export type TakenCommands = {
  readonly has: (command: Command) => boolean
  /** Throws `policy` where too many are remembered already. */
  readonly requireRoom: (nowMs: number) => void
  readonly take: (command: Command, nowMs: number) => void
}

export function rememberCommands(file: StateFile<z.infer<typeof takenCommands>>): TakenCommands {
  let taken = file.load() ?? []
  const unexpired = (nowMs: number) => taken.filter(({ expiresAt }) => parseTime(expiresAt) > nowMs - REQUEST_WINDOW_MS)
  return {
    has: (command) => taken.some(({ commandId }) => commandId === command.id),
    requireRoom: (nowMs) => {
      if (unexpired(nowMs).length >= TAKEN_MAX)
        throw new HoldfastError('policy', 'the server gave more commands than an agent remembers; this one was not taken')
    },
    take: (command, nowMs) => {
      const next = [...unexpired(nowMs), { commandId: command.id, expiresAt: command.expiresAt }]
      file.save(next)
      taken = next
    },
  }
}

// Identifiers: a short prefix for people and 16 random bytes in lower-case hex. They carry no meaning and no order.
import { z } from 'zod'
import type { Random } from './random.ts'

/** The prefix of every kind of thing that has an identifier. */
export const ID_PREFIX = {
  processor: 'prc',
  controller: 'ctl',
  representative: 'rep',
  site: 'site',
  store: 'store',
  instruction: 'ins',
  enrolmentCode: 'code',
  agent: 'ag',
  policy: 'pol',
  run: 'run',
  restore: 'rst',
  deletion: 'del',
  command: 'cmd',
  lease: 'lea',
  user: 'usr',
  apiToken: 'tok',
  session: 'ses',
  alert: 'alr',
  request: 'req',
} as const

export type IdKind = keyof typeof ID_PREFIX

/** A fresh identifier such as `ag_0f3c...`. */
export function makeId(random: Random, kind: IdKind): string {
  return `${ID_PREFIX[kind]}_${random.bytes(16).toString('hex')}`
}

/** The strict form of one kind of identifier, for the wire contract. */
export function idSchema(kind: IdKind): z.ZodString {
  return z
    .string()
    .regex(new RegExp(`^${ID_PREFIX[kind]}_[0-9a-f]{32}$`), `must be an identifier such as ${ID_PREFIX[kind]}_ followed by 32 hex digits`)
}

/** True where `text` is an identifier of this kind. */
export function isId(kind: IdKind, text: string): boolean {
  return text.length === ID_PREFIX[kind].length + 33 && idSchema(kind).safeParse(text).success
}

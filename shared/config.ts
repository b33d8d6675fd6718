// Configuration from a JSON file, the environment and flags, in rising order of weight; read strictly: an unknown key is refused by name.
import type { z } from 'zod'
import { HoldfastError, printable } from './errors.ts'

type Environment = Readonly<Record<string, string | undefined>>

/**
 * Reads one configuration. `names` maps a top-level key to its environment variable; only strings come from there, and the schema
 * turns them into what they mean. Rejects with `bad-config`, naming the key and where it came from.
 */
export function readConfig<T extends z.ZodType>(
  schema: T,
  from: {
    file?: { location: string; text: string } | undefined
    env?: { variables: Environment; names: Readonly<Record<string, string>> } | undefined
    flags?: Readonly<Record<string, unknown>> | undefined
  },
): z.output<T> {
  const merged: Record<string, unknown> = {}
  const origin: Record<string, string> = {}
  const take = (key: string, value: unknown, where: string): void => {
    if (value === undefined) return
    merged[key] = value
    origin[key] = where
  }
  if (from.file !== undefined) for (const [key, value] of Object.entries(parseFile(from.file))) take(key, value, from.file.location)
  if (from.env !== undefined) for (const [key, name] of Object.entries(from.env.names)) take(key, from.env.variables[name], name)
  for (const [key, value] of Object.entries(from.flags ?? {})) take(key, value, `--${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`)

  const parsed = schema.safeParse(merged)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const key = issue?.code === 'unrecognized_keys' ? issue.keys[0] : issue?.path.join('.')
  const top = key?.split('.')[0] ?? ''
  const where = origin[top] === undefined ? '' : ` (from ${origin[top]})`
  const what =
    issue?.code === 'unrecognized_keys'
      ? `unknown configuration key ${printable(key ?? '')}`
      : `configuration key ${printable(key ?? '')}: ${issue?.message}`
  throw new HoldfastError('bad-config', `${what}${where}; correct or remove it`, { fields: { key: printable(key ?? '') } })
}

/** A secret from `NAME` or, where `NAME_FILE` names a file, from its first line. Undefined where neither is set; both is `bad-config`. */
export function readSecret(name: string, variables: Environment, readFile: (path: string) => string): string | undefined {
  const value = variables[name]
  const file = variables[`${name}_FILE`]
  if (value !== undefined && file !== undefined)
    throw new HoldfastError('bad-config', `both ${name} and ${name}_FILE are set; unset one of them`)
  if (file === undefined) return value
  let text: string
  try {
    text = readFile(file)
  } catch (cause) {
    throw new HoldfastError('bad-config', `cannot read the file that ${name}_FILE names; check its path and permissions`, { cause })
  }
  return text.split(/\r?\n/, 1)[0]
}

function parseFile(file: { location: string; text: string }): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(file.text)
  } catch (cause) {
    throw new HoldfastError('bad-config', `${printable(file.location)} is not JSON; correct it`, { cause })
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw new HoldfastError('bad-config', `${printable(file.location)} must hold one JSON object`)
  return value as Record<string, unknown>
}

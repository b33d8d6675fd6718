// The server's configuration: one JSON file, the environment and flags, in rising order of weight. An unknown key is refused.
import { z } from 'zod'
import { HoldfastError } from '@holdfast/shared/errors.ts'

const yesOrNo = z.union([
  z.boolean(),
  z.enum(['true', '1', 'yes']).transform(() => true),
  z.enum(['false', '0', 'no']).transform(() => false),
])
const hours = z.coerce.number().int().min(1).max(720)
const minutes = z.coerce.number().int().min(1).max(100_000)

export const serverConfig = z.strictObject({
  /** Database and keys. */
  data: z.string().min(1),
  /** Where the two key files are; `keys` in the data directory unless given. */
  keys: z.string().min(1).optional(),
  host: z.string().min(1).max(255).default('127.0.0.1'),
  port: z.coerce.number().int().min(0).max(65_535).default(8420),
  tlsCert: z.string().min(1).optional(),
  tlsKey: z.string().min(1).optional(),
  behindProxy: yesOrNo.default(false),
  redis: z
    .string()
    .regex(/^(rediss?:\/\/|unix:\/|\/)/, 'must be an address such as redis://127.0.0.1:6379')
    .default('redis://127.0.0.1:6379'),
  restoreHours: hours.default(72),
  graceMinutes: minutes.default(60),
  silentMinutes: minutes.default(60),
  /** The undelete window. */
  undeleteDays: z.coerce.number().min(0).max(3650).default(14),
  deletionsMinutes: z.coerce.number().min(0.001).max(1440).default(10),
})
export type ServerConfig = z.infer<typeof serverConfig>

/** The environment variable of each key. */
export const CONFIG_NAMES: Readonly<Record<string, string>> = {
  data: 'HOLDFAST_SERVER_DATA',
  keys: 'HOLDFAST_SERVER_KEYS',
  host: 'HOLDFAST_SERVER_HOST',
  port: 'HOLDFAST_SERVER_PORT',
  tlsCert: 'HOLDFAST_SERVER_TLS_CERT',
  tlsKey: 'HOLDFAST_SERVER_TLS_KEY',
  behindProxy: 'HOLDFAST_SERVER_BEHIND_PROXY',
  redis: 'HOLDFAST_SERVER_REDIS',
  restoreHours: 'HOLDFAST_SERVER_RESTORE_HOURS',
  graceMinutes: 'HOLDFAST_SERVER_GRACE_MINUTES',
  silentMinutes: 'HOLDFAST_SERVER_SILENT_MINUTES',
  undeleteDays: 'HOLDFAST_SERVER_UNDELETE_DAYS',
  deletionsMinutes: 'HOLDFAST_SERVER_DELETIONS_MINUTES',
}

/** Refuses what would send log-ins and records in clear text over a network. */
export function requireSafeAddress(config: ServerConfig): void {
  if ((config.tlsCert === undefined) !== (config.tlsKey === undefined)) {
    throw new HoldfastError('bad-config', 'TLS needs both a certificate and its key; give --tls-cert and --tls-key')
  }
  if (config.tlsCert === undefined && !config.behindProxy && !isLoopback(config.host)) {
    throw new HoldfastError(
      'bad-config',
      `plain HTTP is served on loopback only, and ${config.host} is not; give --tls-cert and --tls-key, or --behind-proxy where a proxy ends TLS`,
    )
  }
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host)
}

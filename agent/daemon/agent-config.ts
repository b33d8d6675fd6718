// The appliance's own configuration, `agent.json`: what the labels of policies and restores mean here. Only this file maps a label to a path;
// nothing that the server says can. Read strictly: every unknown key is refused, all of them named at once.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import { z } from 'zod'
import { parseLocation } from '@holdfast/shared/store/location.ts'
import type { ExcludeRules } from '../backup/backup-types.ts'

export const AGENT_CONFIG_BYTES_MAX = 1024 * 1024

/** An absolute path: as text, or `{"hex": "2f73…"}` for bytes that are not UTF-8. */
const absolutePath = z
  .union([z.string(), z.strictObject({ hex: z.string().regex(/^([0-9a-f]{2})+$/, 'must be hex digits') })])
  .transform((value, context): Buffer => {
    const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : Buffer.from(value.hex, 'hex')
    if (bytes[0] !== 0x2f || bytes.includes(0) || bytes.length > 4095)
      context.addIssue({ code: 'custom', message: 'must be an absolute path' })
    return bytes
  })

const pattern = z.string().min(1).max(4096)
const source = z.strictObject({
  paths: z.array(absolutePath).min(1).max(1000),
  /** Always left out, in gitignore syntax; a policy can name further lists. */
  excludes: z.array(pattern).max(10_000).default([]),
  cacheDirectories: z.boolean().default(true),
  oneFileSystem: z.boolean().default(false),
  largerThanBytes: z.int().min(1).optional(),
})
const storeAccess = z.strictObject({
  location: z.string().superRefine((text, context) => {
    try {
      parseLocation(text)
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      context.addIssue({ code: 'custom', message: error.message })
    }
  }),
  region: z.string().max(64).optional(),
  style: z.enum(['path', 'virtual']).optional(),
  caFile: z.string().optional(),
  /** Profile of the shared AWS files, where no credentials stand here. */
  profile: z.string().max(128).optional(),
  credentials: z.strictObject({ accessKeyId: z.string().min(1), secretAccessKey: z.string().min(1) }).optional(),
  uploadBytesPerSecond: z.int().min(1024).optional(),
})

const agentConfig = z
  .strictObject({
    /** How people call this appliance; the server sees it. */
    host: c.label,
    server: z.strictObject({ url: z.string().max(2048), caFile: z.string().optional() }).optional(),
    sources: z.record(c.label, source).default({}),
    /** Lists of patterns that policies name by label. */
    excludes: z.record(c.label, z.array(pattern).max(10_000)).default({}),
    /** Where restores may write: label to directory. */
    restoreRoots: z.record(c.label, absolutePath).default({}),
    /** Those of them that are for drills alone: what is restored there is compared and removed again. */
    drillRoots: z.array(c.label).max(256).default([]),
    /** How to reach the stores that policies name by id. */
    stores: z.record(c.storeId, storeAccess).default({}),
    journalLimitBytes: z
      .int()
      .min(64 * 1024 * 1024)
      .optional(),
    limits: z
      .strictObject({
        workers: z.int().min(1).max(256).optional(),
        uploadsAtOnce: z.int().min(1).max(64).optional(),
        compressionLevel: z.int().min(1).max(19).optional(),
      })
      .default({}),
  })
  .superRefine(({ drillRoots, restoreRoots }, context) => {
    for (const [i, root] of drillRoots.entries())
      if (!Object.hasOwn(restoreRoots, root))
        context.addIssue({ code: 'custom', path: ['drillRoots', i], message: 'must be one of restoreRoots' })
  })
export type AgentConfig = z.output<typeof agentConfig>
export type StoreAccess = z.output<typeof storeAccess>

/** A whole example, kept valid by a test. */
export const AGENT_CONFIG_EXAMPLE = `{
  "host": "appliance-1",
  "server": { "url": "https://backup.example:8443", "caFile": "/etc/holdfast/server-ca.pem" },
  "sources": {
    "documents": { "paths": ["/srv/documents"], "excludes": ["*.tmp"], "oneFileSystem": true }
  },
  "excludes": { "media": ["*.mkv", "*.iso"] },
  "restoreRoots": { "desk": "/srv/restored", "drill": "/srv/holdfast-drill" },
  "drillRoots": ["drill"],
  "stores": {
    "store_00112233445566778899aabbccddeeff": {
      "location": "s3:https://objects.example/backup/site-1",
      "credentials": { "accessKeyId": "put-only", "secretAccessKey": "..." }
    }
  },
  "journalLimitBytes": 1073741824,
  "limits": { "workers": 2 }
}
`

/** Reads `agent.json`. Rejects with `bad-config`, naming all that is wrong, never a value. */
export function parseAgentConfig(text: string, location: string): AgentConfig {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new HoldfastError('bad-config', `${printable(location)} is not JSON; correct it`, { cause })
  }
  const parsed = agentConfig.safeParse(value)
  if (parsed.success) return parsed.data
  const problems = parsed.error.issues.flatMap((issue) => {
    const at = issue.path.map(String).join('.')
    if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => `unknown key ${at === '' ? key : `${at}.${key}`}`)
    return [`${at === '' ? 'the whole' : at} ${issue.code === 'invalid_key' ? 'is no label' : issue.message}`]
  })
  throw new HoldfastError('bad-config', `${printable(location)}: ${printable(problems.slice(0, 20).join('; '))}. Correct or remove these.`)
}

/** What of a source is left out under a policy: the source's own patterns and the lists that the policy names. Throws `policy` for an unknown list. */
export function excludeRules(config: AgentConfig, label: string, lists: readonly string[]): ExcludeRules {
  const from = ownValue(config.sources, label)
  if (from === undefined) throw new HoldfastError('policy', `this appliance has no source ${label}; add it to agent.json`)
  const named = lists.flatMap((list) => {
    const patterns = ownValue(config.excludes, list)
    if (patterns === undefined) throw new HoldfastError('policy', `this appliance has no exclude list ${list}; add it to agent.json`)
    return patterns
  })
  const { cacheDirectories, oneFileSystem, largerThanBytes } = from
  return { patterns: [...from.excludes, ...named], cacheDirectories, oneFileSystem, largerThanBytes }
}

/** The value of a label that comes from outside; undefined where the configuration has none. */
export function ownValue<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined
}

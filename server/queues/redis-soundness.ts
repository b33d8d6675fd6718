// What a Redis must be for the queues, judged from its own INFO: recent enough, not a replica, keeping an append-only file, never evicting.
import { HoldfastError } from '@holdfast/shared/errors.ts'

/** Older ones lack commands that the queues' scripts use. */
const VERSION_MIN = [6, 2] as const

/** Passes, or rejects with `bad-config`: what is wrong with the Redis at `address` and what to do. `info` is the reply to `INFO`. */
export function requireSound(info: string, address: string): void {
  const fields = new Map(
    info
      .split(/\r?\n/)
      .filter((line) => line.includes(':') && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]),
  )
  const wrong = (what: string): HoldfastError => new HoldfastError('bad-config', `Redis at ${address} ${what}`)
  const version = fields.get('redis_version') ?? ''
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (!(major > VERSION_MIN[0] || (major === VERSION_MIN[0] && minor >= VERSION_MIN[1])))
    throw wrong(`is version ${/^[\d.]{1,20}$/.test(version) ? version : 'unknown'}; install 6.2 or later`)
  if ((fields.get('role') ?? 'master') !== 'master') throw wrong('is a read-only replica; give the address of its primary')
  if (fields.get('aof_enabled') !== '1')
    throw wrong('keeps no append-only file; set "appendonly yes" in redis.conf (CONFIG SET appendonly yes does it until the next restart)')
  if ((fields.get('aof_last_write_status') ?? 'ok') !== 'ok')
    throw wrong('cannot write its append-only file; free space on its disk, then look at its log')
  if (fields.get('maxmemory_policy') !== 'noeviction')
    throw wrong('may throw jobs away when memory is short; set "maxmemory-policy noeviction" in redis.conf')
}

// A real, private Redis for tests: append-only file and noeviction, on a free loopback port, fetched where it is missing (printed first).
import { provideRedis, startRedisServer } from '../../demo/redis-server.ts'
import type { RedisServer } from '../../demo/redis-server.ts'

/** Starts a Redis of its own for the caller; rejects where there is none to be had. */
export async function startRedis(settings: Readonly<Record<string, string>> = {}): Promise<RedisServer> {
  const program = await provideRedis({ say: (line) => process.stderr.write(`${line}\n`) })
  if (program === undefined) throw new Error('no Redis: install redis-server')
  return startRedisServer(program, settings)
}

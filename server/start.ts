// A running server: starts only when database, queue and address are sound, and stops cleanly within a deadline.
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { join } from 'node:path'
import type { FastifyServerFactory } from 'fastify'
import type { Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError, messageOf } from '@holdfast/shared/errors.ts'
import type { Log } from '@holdfast/shared/log.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { buildApp } from './app.ts'
import { requireSafeAddress } from './config.ts'
import type { ServerConfig } from './config.ts'
import type { ServerSettings } from './context.ts'
import { deletingStores } from './deletions/store-access.ts'
import { dispatchJobs } from './dispatch.ts'
import { DATABASE_FILE, PROCESSOR_SETTING } from './init.ts'
import { readKeyFiles } from './keys.ts'
import type { Parts } from './parts.ts'
import { openSqliteRecords } from './records/sqlite-records.ts'
import { Waker } from './waker.ts'

/** Longer than proxies keep idle connections, and than a poll waits. */
const KEEP_ALIVE_MS = 72_000
const REQUEST_MS = 120_000
const STOP_MS = 10_000

export type RunningServer = {
  /** Where it listens, such as `http://127.0.0.1:8420`. */
  readonly address: string
  /** Answers parked polls with 204, finishes requests and jobs, closes all; within 10 seconds. */
  stop(): Promise<void>
}

/** Starts a server, or rejects with one clear line of what is wrong and what to do. */
export async function startServer(options: {
  config: ServerConfig
  parts: Parts
  clock: Clock
  random: Random
  log: Log
}): Promise<RunningServer> {
  const { config, parts, clock, random, log } = options
  requireSafeAddress(config)
  const serverFactory = makeServerFactory(config)
  const databasePath = join(config.data, DATABASE_FILE)
  if (!existsSync(databasePath))
    throw new HoldfastError('bad-config', `no server was set up in ${config.data}; run holdfast-server init first`)
  const keys = readKeyFiles(config.keys ?? join(config.data, 'keys'), random)
  if (parts.openQueue === undefined) throw new HoldfastError('failed', 'this build has no queue; install one that has')

  const closers: (() => Promise<void>)[] = []
  const closeAll = async (): Promise<void> => {
    for (const close of closers.splice(0).reverse()) await close()
  }
  try {
    const records = await openSqliteRecords(databasePath)
    closers.push(() => records.close())
    const processorId = await records.getSetting({ name: PROCESSOR_SETTING })
    if (processorId === undefined)
      throw new HoldfastError('bad-config', `${databasePath} is no database of a server; run holdfast-server init in an empty directory`)
    // Jobs of another server on the same Redis are of rows that this one does not have.
    const queue = await parts.openQueue({ redisUrl: config.redis, prefix: `holdfast:${processorId}`, log })
    closers.push(() => queue.close())
    await queue.check()
    const settings: ServerSettings = {
      processorId,
      secure: config.tlsCert !== undefined || config.behindProxy,
      restoreTtlMs: config.restoreHours * 3_600_000,
      graceMs: config.graceMinutes * 60_000,
      silentMs: config.silentMinutes * 60_000,
      undeleteMs: config.undeleteDays * 86_400_000,
      deletionsEveryMs: config.deletionsMinutes * 60_000,
    }
    const waker = new Waker()
    const openStore = deletingStores(clock, random)
    const deps = { records, queue, clock, random, keys, config: settings, log, waker, openStore }
    const app = await buildApp({ ...deps, plugins: parts.plugins, serverFactory, trustProxy: config.behindProxy })
    closers.push(() => app.close())
    await queue.work(deps)
    await dispatchJobs(deps)
    const address = await listen(app, config)
    log.info('listening', { address })
    return { address, stop: () => stopWithin(closeAll, clock, log) }
  } catch (error) {
    await closeAll()
    throw error
  }
}

async function stopWithin(closeAll: () => Promise<void>, clock: Clock, log: Log): Promise<void> {
  const timer = new AbortController()
  const late = clock.sleep(STOP_MS, timer.signal).then(
    () => true,
    () => false,
  )
  const closed = closeAll().then(() => false)
  if (await Promise.race([closed, late]))
    log.warn('stopped-late', { message: 'some requests were cut off; their work is durable or will be asked again' })
  timer.abort()
}

async function listen(app: Awaited<ReturnType<typeof buildApp>>, config: ServerConfig): Promise<string> {
  try {
    const address = await app.listen({ host: config.host, port: config.port })
    return config.tlsCert === undefined ? address : address.replace(/^http:/, 'https:')
  } catch (cause) {
    const inUse = cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE'
    const what = inUse
      ? `port ${config.port} is in use; stop what listens there or give another --port`
      : `cannot listen there (${messageOf(cause)}); check --host and --port`
    throw new HoldfastError('bad-config', `${config.host}:${config.port}: ${what}`, { cause })
  }
}

function makeServerFactory(config: ServerConfig): FastifyServerFactory {
  const { tlsCert, tlsKey } = config
  const tls = tlsCert === undefined || tlsKey === undefined ? undefined : { cert: readPem(tlsCert), key: readPem(tlsKey) }
  return (handler) => {
    let server: Server
    try {
      server = tls === undefined ? createServer(handler) : createTlsServer({ ...tls, minVersion: 'TLSv1.2' }, handler)
    } catch (cause) {
      throw new HoldfastError('bad-config', `the certificate or key for TLS cannot be used (${messageOf(cause)}); check both files`, {
        cause,
      })
    }
    server.keepAliveTimeout = KEEP_ALIVE_MS
    server.requestTimeout = REQUEST_MS
    return server
  }
}

function readPem(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (cause) {
    throw new HoldfastError('bad-config', `cannot read ${path}; check its path and permissions`, { cause })
  }
}

// A whole installation of real processes, each through its launcher: Redis, the control server, an enrolled appliance with its daemon, and the
// controller's process that grants. All on loopback, in a folder of its own; every process can be killed and started again.
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type Administrator, type Api, type Customer, logIn, setUpCustomer, untilReady } from '../../../demo/control-server.ts'
import { type Environment, run, start, stopAll } from '../../../demo/programs.ts'
import type { RedisServer } from '../../../demo/redis-server.ts'
import type { S3Server } from '../../../demo/s3-server.ts'
import { type Ran, Workplace } from '../../agent/cli/_support/cli.ts'
import { freePorts } from '../../_support/ports.ts'
import { startRedis } from '../../_support/redis.ts'
import { until, type UntilOptions } from './until.ts'

export const PASSPHRASE = 'of the controller alone'
const BUCKET = 'e2e'

export type InstallationOptions = {
  /** The directory that the appliance backs up as the source `documents`. */
  readonly source: (place: Workplace) => string
  readonly s3?: S3Server
  readonly uploadBytesPerSecond?: number
  /** Done with the folders of appliance and server before anything writes there. */
  readonly prepared?: (place: Workplace) => Promise<void>
  /** Where agent and controller reach the server, for a proxy between them. */
  readonly serverUrl?: (port: number) => Promise<string>
}

export type RunSeen = {
  readonly id: string
  readonly kind: string
  readonly state: string
  readonly code: string | null
  readonly snapshotId: string | null
  readonly startedAt: string
  readonly recorded: boolean
  readonly recordedFiles: number
}

/** Sets everything up: domain, roster, bundle, enrolment, one policy. The daemon is not started yet. */
export async function startInstallation(options: InstallationOptions): Promise<Installation> {
  const place = new Workplace()
  for (const name of ['controller', 'agent', 'desk']) mkdirSync(place.path(name), { mode: 0o700 })
  await options.prepared?.(place)
  const [redis, [port = 0]] = await Promise.all([startRedis(), freePorts(1)])
  const one = new Installation(place, redis, port, options.source(place), options.s3)
  try {
    await one.setUp(options)
    return one
  } catch (error) {
    await one.close()
    throw error
  }
}

/** The processes of one installation, by what they do. */
export class Installation {
  readonly place: Workplace
  readonly redis: RedisServer
  readonly port: number
  readonly source: string
  readonly s3: S3Server | undefined
  readonly store: string
  readonly atAgent: Environment
  atController: Environment = {}
  api!: Api
  customer!: Customer
  agentId = ''
  policyId = ''
  #administrator!: Administrator
  #server: ChildProcess | undefined
  #daemon: ChildProcess | undefined

  constructor(place: Workplace, redis: RedisServer, port: number, source: string, s3: S3Server | undefined) {
    this.place = place
    this.redis = redis
    this.port = port
    this.source = source
    this.s3 = s3
    this.store = s3 === undefined ? place.repo : `s3:${s3.endpoint}/${BUCKET}/customer`
    this.atAgent = { HOLDFAST_AGENT_DIR: place.path('agent') }
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  async setUp(options: InstallationOptions): Promise<void> {
    const { place, s3, store } = this
    const env = { HOLDFAST_SERVER_DATA: place.path('server'), HOLDFAST_SERVER_PASSWORD: 'long enough for a test' }
    const [text] = await Promise.all([
      run('holdfast-server', ['init', '--admin', 'first', '--json'], { home: place.path('home'), env: this.#shared(env) }),
      s3?.createBucket(BUCKET, { versioning: true }),
    ])
    const { otpauth } = JSON.parse(text) as { otpauth: string }
    this.#administrator = { userName: 'first', password: env.HOLDFAST_SERVER_PASSWORD, otpauth }
    await this.startServer()
    this.api = await logIn(this.url, this.#administrator)
    this.customer = await setUpCustomer(this.api, s3 === undefined ? undefined : { endpoint: s3.endpoint, bucket: BUCKET })
    const serverUrl = (await options.serverUrl?.(this.port)) ?? this.url
    this.atController = {
      ...(s3 === undefined ? {} : { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey }),
      HOLDFAST_REPO: store,
      HOLDFAST_DOMAIN_DIR: place.path('controller', 'domain'),
      HOLDFAST_PASSWORD: PASSPHRASE,
      HOLDFAST_SERVER: serverUrl,
      HOLDFAST_TOKEN: this.customer.token,
    }
    writeFileSync(place.path('agent', 'agent.json'), JSON.stringify(this.#agentConfig(options)), { mode: 0o600 })
    const [domain, enrolled] = await Promise.all([
      this.controller(['init', '--domain']),
      this.agent(['enroll', this.customer.enrolmentCode, '--server', serverUrl, '--no-wait']),
    ])
    this.agentId = enrolled.agentId ?? ''
    await this.controller(['domain', 'roster', 'add', this.agentId, '--fingerprint', enrolled.fingerprint ?? ''])
    await this.controller(['domain', 'bundle', this.agentId])
    await this.agent(['enroll', '--domain', domain.domainFingerprint ?? ''])
    const { storeId, instructionId } = this.customer
    const policy = { agentId: this.agentId, source: 'documents', schedule: { every: '24h' }, storeId, instructionId }
    this.policyId = (await this.api.post<{ id: string }>('/v1/policies', policy)).id
  }

  #agentConfig({ uploadBytesPerSecond }: InstallationOptions): object {
    const { s3, customer, place } = this
    const credentials = s3 === undefined ? {} : { credentials: { accessKeyId: s3.accessKey, secretAccessKey: s3.secretKey } }
    const limit = uploadBytesPerSecond === undefined ? {} : { uploadBytesPerSecond }
    return {
      host: 'appliance',
      sources: { documents: { paths: [this.source] } },
      restoreRoots: { desk: place.path('desk'), drill: place.path('drill') },
      drillRoots: ['drill'],
      stores: { [customer.storeId]: { location: this.store, ...credentials, ...limit } },
    }
  }

  /** All processes of a test share one compile cache, as those of one machine do. */
  #shared(env: Environment): Environment {
    return { NODE_COMPILE_CACHE: this.place.env['NODE_COMPILE_CACHE'] ?? '', ...env }
  }

  async startServer(): Promise<void> {
    const { place, redis, port } = this
    const server = start('holdfast-server', ['start', '--port', String(port), '--redis', redis.url], {
      home: place.path('home'),
      env: this.#shared({ HOLDFAST_SERVER_DATA: place.path('server') }),
      log: place.path('server.log'),
    })
    this.#server = server
    await untilReady(this.url, () => server.exitCode === null && server.signalCode === null)
  }

  killServer(): Promise<void> {
    return killed(this.#server)
  }

  startDaemon(): void {
    this.#daemon = start('holdfast', ['run'], {
      home: this.place.path('home'),
      env: this.#shared(this.atAgent),
      log: this.place.path('agent.log'),
    })
  }

  get isDaemonRunning(): boolean {
    return this.#daemon !== undefined && this.#daemon.exitCode === null && this.#daemon.signalCode === null
  }

  killDaemon(): Promise<void> {
    return killed(this.#daemon)
  }

  /** The controller's process that grants what the standing instruction covers: restores to the desk, unless other terms are given. */
  startGranting(terms: readonly string[] = ['--to', 'desk']): void {
    const watch = ['grant', '--watch', '--instruction', this.customer.instructionId, '--agent', this.agentId, ...terms, '--every', '1']
    start('holdfast', watch, {
      home: this.place.path('controller'),
      env: this.#shared(this.atController),
      log: this.place.path('controller.log'),
    })
  }

  /** A command of the controller that must succeed. */
  async controller(args: readonly string[]) {
    return this.#succeeds(args, { ...this.atController, HOME: this.place.path('controller') })
  }

  /** A command on the appliance that must succeed. */
  async agent(args: readonly string[]) {
    return this.#succeeds(args, { ...this.atAgent, HOLDFAST_REPO: undefined, HOLDFAST_PASSWORD: undefined })
  }

  async #succeeds(args: readonly string[], env: Record<string, string | undefined>) {
    const { summary, events } = await this.place.json(args, { env })
    if (summary.exitCode !== 0) throw new Error(`'holdfast ${args.join(' ')}' ended with ${summary.exitCode}: ${JSON.stringify(events)}`)
    return summary
  }

  /** Runs a command with the environment of the appliance, whatever comes of it. */
  ran(args: readonly string[], env: Record<string, string | undefined>): Promise<Ran> {
    return this.place.run(args, { env })
  }

  runs(): Promise<RunSeen[]> {
    return this.api.get<{ items: RunSeen[] }>('/v1/runs?limit=500').then(({ items }) => items)
  }

  /** Asks for a backup now and resolves with the id of its run once the server knows that it began. */
  async backupNow(): Promise<string> {
    const seen = new Set((await this.runs()).map(({ id }) => id))
    await this.askForBackup()
    return this.nextRun(seen)
  }

  /** The id of a backup that is not among `seen`. A policy that never ran is due at once, so the first begins by itself. */
  nextRun(seen: ReadonlySet<string>): Promise<string> {
    return until('a run begins', async () => (await this.runs()).find(({ id, kind }) => kind === 'backup' && !seen.has(id))?.id)
  }

  async askForBackup(): Promise<void> {
    await this.api.post(`/v1/agents/${this.agentId}/backup-now`, { policyId: this.policyId })
  }

  /** The run once it ended and every record of it is in place. */
  recordedRun(id: string, options?: UntilOptions): Promise<RunSeen> {
    const look = async (): Promise<RunSeen | undefined> =>
      (await this.runs()).find((one) => one.id === id && one.state !== 'running' && one.recorded)
    return until(`run ${id} is recorded`, look, { everyMs: 100, ...options })
  }

  /** Asks for a restore to the desk; of the whole snapshot, or of `paths`. */
  async request(snapshotId: string, paths: readonly string[] = []): Promise<string> {
    const terms = ['--agent', this.agentId, '--to', 'desk', '--instruction', this.customer.instructionId]
    const { restoreId } = await this.controller(['request', snapshotId, ...terms, ...paths.flatMap((path) => ['--path', path])])
    if (restoreId === undefined) throw new Error('the request named no restore')
    return restoreId
  }

  async restoreState(id: string): Promise<string> {
    return (await this.api.get<{ state: string }>(`/v1/restores/${id}`)).state
  }

  /** The state in which a restore ended. */
  endedRestore(id: string, options?: UntilOptions): Promise<string> {
    const look = async (): Promise<string | undefined> => {
      const state = await this.restoreState(id)
      return /^(completed|failed|cancelled|expired|refused)/.test(state) ? state : undefined
    }
    return until(`restore ${id} ends`, look, { everyMs: 100, ...options })
  }

  log(name: 'server' | 'agent' | 'controller'): string {
    const path = this.place.path(`${name}.log`)
    return existsSync(path) ? readFileSync(path, 'utf8') : ''
  }

  async close(): Promise<void> {
    await stopAll()
    await this.redis.stop()
    this.place.close()
  }
}

/** Ends a process as a power cut would. */
async function killed(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await ended
}

// `npm run demo [-- PATH] [-- --exit]`: the main job on real input, from nothing: Redis, an S3 server, the control server, an enrolled appliance that can
// write but not read, two backups, a restore asked for through the API and granted by the controller, compared byte by byte and attribute by
// attribute, and the records of all of it. Everything runs on loopback in a folder of its own and is gone at the end.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { systemClock } from '@holdfast/shared/clock.ts'
import { compareTrees, seesAttributes } from '../test/_support/tree-manifest.ts'
import { freePorts } from '../test/_support/ports.ts'
import { type Administrator, type Api, codeNow, type Customer, logIn, setUpCustomer, untilReady } from './control-server.ts'
import { type Environment, events, run, start, stopAll } from './programs.ts'
import { provideRedis, type RedisServer, startRedisServer } from './redis-server.ts'
import { provideCeph, type S3Server, startS3Server } from './s3-server.ts'
import { changeTree, chooseTree, copyTree } from './source-tree.ts'

const started = systemClock.monotonicMs()
const say = (line: string): void => void process.stdout.write(`${line}\n`)
const step = (line: string): void => say(`\n[${((systemClock.monotonicMs() - started) / 1000).toFixed(0).padStart(3)} s] ${line}`)
const bytes = (count: number): string => (count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`)

type Place = { readonly folder: string; readonly path: (...parts: string[]) => string }
type Store = {
  readonly location: string
  readonly s3: S3Server | undefined
  readonly controller: Environment
  readonly appliance: { accessKeyId: string; secretAccessKey: string } | undefined
}

const BUCKET = 'holdfast-demo'

/** The S3 server with a bucket that keeps versions, and for the appliance a user who may put and read but neither delete nor administer. */
async function startStore(place: Place): Promise<Store> {
  const programs = await provideCeph({ say })
  if (programs === undefined) {
    say('No S3 server is here and none can be installed: the demonstration uses a directory store instead.')
    return { location: place.path('store'), s3: undefined, controller: {}, appliance: undefined }
  }
  const s3 = await startS3Server(programs, {})
  await s3.createBucket(BUCKET, { versioning: true })
  const appliance = { accessKeyId: 'DEMOAPPLIANCE', secretAccessKey: s3.secretKey.split('').reverse().join('') }
  await s3.admin(
    'user',
    'create',
    '--uid=appliance',
    '--display-name=appliance',
    `--access-key=${appliance.accessKeyId}`,
    `--secret-key=${appliance.secretAccessKey}`,
  )
  await s3.setBucketPolicy(BUCKET, {
    Version: '2012-10-17',
    Statement: [
      // An object belongs to who put it, so the owner of the bucket needs a word too.
      {
        Effect: 'Allow',
        Principal: { AWS: ['arn:aws:iam:::user/t'] },
        Action: ['s3:*'],
        Resource: [`arn:aws:s3:::${BUCKET}`, `arn:aws:s3:::${BUCKET}/*`],
      },
      {
        Effect: 'Allow',
        Principal: { AWS: ['arn:aws:iam:::user/appliance'] },
        Action: [
          's3:PutObject',
          's3:GetObject',
          's3:GetObjectVersion',
          's3:ListBucket',
          's3:ListBucketVersions',
          's3:GetBucketVersioning',
          's3:GetBucketObjectLockConfiguration',
        ],
        Resource: [`arn:aws:s3:::${BUCKET}`, `arn:aws:s3:::${BUCKET}/*`],
      },
    ],
  })
  return {
    location: `s3:${s3.endpoint}/${BUCKET}/customer`,
    s3,
    controller: { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey },
    appliance,
  }
}

async function startServer(place: Place, redis: RedisServer): Promise<{ url: string; administrator: Administrator; api: Api }> {
  const [port = 0] = await freePorts(1)
  const password = `demonstration-${redis.port}-${port}`
  const env = { HOLDFAST_SERVER_DATA: place.path('server'), HOLDFAST_SERVER_PASSWORD: password }
  const made = JSON.parse(await run('holdfast-server', ['init', '--admin', 'demo', '--json'], { home: place.path('home'), env })) as {
    otpauth: string
  }
  const administrator = { userName: 'demo', password, otpauth: made.otpauth }
  const server = start('holdfast-server', ['start', '--port', String(port), '--redis', redis.url], {
    home: place.path('home'),
    env,
    log: place.path('server.log'),
  })
  const url = `http://127.0.0.1:${port}`
  await untilReady(url, () => server.exitCode === null)
  return { url, administrator, api: await logIn(url, administrator) }
}

/** The two halves of enrolment: the server's one-time code, and the domain's keys sealed to an appliance whose fingerprint a person compared. */
async function enrol(
  place: Place,
  store: Store,
  url: string,
  customer: Customer,
): Promise<{ agentId: string; agent: Environment; controller: Environment }> {
  const controller: Environment = {
    ...store.controller,
    HOLDFAST_REPO: store.location,
    HOLDFAST_DOMAIN_DIR: place.path('controller', 'domain'),
    HOLDFAST_PASSWORD: 'only on the controller’s machine',
    HOLDFAST_SERVER: url,
    HOLDFAST_TOKEN: customer.token,
  }
  const atController = { home: place.path('controller'), env: controller }
  const domain = (await events(['init', '--domain'], atController)).summary
  say(`     The controller’s domain: ${domain.domainFingerprint}`)
  writeFileSync(
    place.path('agent', 'agent.json'),
    JSON.stringify({
      host: 'demo-appliance',
      sources: { documents: { paths: [place.path('source')] } },
      restoreRoots: { desk: place.path('desk') },
      stores: {
        [customer.storeId]: { location: store.location, ...(store.appliance === undefined ? {} : { credentials: store.appliance }) },
      },
    }),
    { mode: 0o600 },
  )
  const agent: Environment = { HOLDFAST_AGENT_DIR: place.path('agent') }
  const atAppliance = { home: place.path('home'), env: agent }
  const { agentId, fingerprint } = (await events(['enroll', customer.enrolmentCode, '--server', url, '--no-wait'], atAppliance)).summary
  if (agentId === undefined || fingerprint === undefined || domain.domainFingerprint === undefined)
    throw new Error('enrolment did not name the agent')
  say(
    `     The appliance ${agentId} shows the fingerprint ${fingerprint} of its keys; the controller compares it and seals the write keys to it.`,
  )
  await events(['domain', 'roster', 'add', agentId, '--fingerprint', fingerprint], atController)
  await events(['domain', 'bundle', agentId], atController)
  await events(['enroll', '--domain', domain.domainFingerprint], atAppliance)
  return { agentId, agent, controller }
}

type Run = {
  id: string
  kind: string
  state: string
  snapshotId: string | null
  recorded: boolean
  recordedFiles: number
  recordedBytes: number
}

/** Waits for the next recorded run of a kind that is not among `seen`. */
async function untilRun(api: Api, kind: 'backup' | 'recovery', seen: ReadonlySet<string>): Promise<Run> {
  for (let tries = 0; tries < 6000; tries++) {
    const { items } = await api.get<{ items: Run[] }>('/v1/runs')
    const found = items.find((item) => item.kind === kind && !seen.has(item.id) && item.state !== 'running' && item.recorded)
    if (found !== undefined) {
      if (found.state !== 'ok') throw new Error(`the ${kind} ended as '${found.state}'`)
      return found
    }
    await systemClock.sleep(200)
  }
  throw new Error(`no ${kind} was recorded within 20 minutes`)
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { exit: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  })
  if (values.help) {
    say(
      'npm run demo [-- PATH] [-- --exit]\n\nShows the whole product on a copy of PATH (a public tree of this host by default). Stays up until Ctrl-C, or ends with --exit.',
    )
    return 0
  }
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-demo-'))
  const place: Place = { folder, path: (...parts) => join(folder, ...parts) }
  for (const name of ['home', 'controller', 'agent', 'desk']) mkdirSync(place.path(name), { mode: 0o700 })
  let redis: RedisServer | undefined
  let store: Store | undefined
  try {
    const tree = chooseTree(positionals[0])
    say(`Holdfast, the whole job on a copy of ${tree}. All of it runs on this machine, in ${folder}, and is removed at the end.`)
    say('It needs Redis and an S3 server (Ceph’s radosgw); what is missing is installed from Debian’s packages, and said first.')

    step('Redis and an S3 server on loopback')
    const program = await provideRedis({ say })
    if (program === undefined) throw new Error('Redis is not here and cannot be installed: install redis-server and try again')
    redis = await startRedisServer(program)
    store = await startStore(place)
    say(`     ${redis.url}, ${store.location}`)

    step('The control server: database, keys, first administrator')
    const { url, administrator, api } = await startServer(place, redis)
    const customer = await setUpCustomer(api, store.s3 === undefined ? undefined : { endpoint: store.s3.endpoint, bucket: BUCKET })
    say(`     ${url}; a customer with a site, a store, an instruction and a one-time code for its appliance`)

    step('Enrolment: the appliance gets what it needs to write, and nothing that reads')
    copyTree(tree, place.path('source'))
    const { agentId, agent, controller } = await enrol(place, store, url, customer)
    start('holdfast', ['run'], { home: place.path('home'), env: agent, log: place.path('agent.log') })
    const watch = ['grant', '--watch', '--instruction', customer.instructionId, '--agent', agentId, '--to', 'desk', '--every', '1']
    start('holdfast', watch, { home: place.path('controller'), env: controller, log: place.path('controller.log') })

    step('First backup, by a policy under the customer’s instruction')
    const policy = {
      agentId,
      source: 'documents',
      schedule: { every: '6h' },
      storeId: customer.storeId,
      instructionId: customer.instructionId,
    }
    const { id: policyId } = await api.post<{ id: string }>('/v1/policies', policy)
    const first = await untilRun(api, 'backup', new Set())
    say(`     ${first.recordedFiles} files transmitted and recorded, ${bytes(first.recordedBytes)} of them`)

    step('Files change, second backup')
    const changed = changeTree(place.path('source'))
    await api.post(`/v1/agents/${agentId}/backup-now`, { policyId })
    const second = await untilRun(api, 'backup', new Set([first.id]))
    say(`     ${second.recordedFiles} files transmitted: only what is new`)

    step('A restore asked for through the API, granted by the controller’s process, carried out by the appliance')
    const atController = { home: place.path('controller'), env: controller }
    const request = ['request', second.snapshotId ?? 'latest', '--agent', agentId, '--to', 'desk', '--instruction', customer.instructionId]
    const asked = systemClock.monotonicMs()
    const { restoreId } = (await events(request, atController)).summary
    await untilRun(api, 'recovery', new Set())
    const restore = await api.get<{ state: string; requestedBy: string; grantedBy: string | null }>(`/v1/restores/${restoreId}`)
    say(
      `     ${restoreId}: ${restore.state} after ${((systemClock.monotonicMs() - asked) / 1000).toFixed(1)} s; asked by ${restore.requestedBy}, granted by ${restore.grantedBy}`,
    )
    if (restore.state !== 'completed') throw new Error(`the restore ended as '${restore.state}'`)

    step('Comparing what came back with the source, by find, sha256sum and getfattr')
    const differences = await compareTrees(place.path('source'), place.path('desk', place.path('source')))
    if (differences.length > 0) throw new Error(`the restored tree differs:\n${differences.slice(0, 20).join('\n')}`)
    say(
      `     0 differences in content, kinds, modes, owners, times to the nanosecond, links and holes${seesAttributes ? ', extended attributes' : ' (extended attributes not compared: the package attr is not installed)'}`,
    )

    step('What the records say about one file (the name stays with the controller; the server knows a token)')
    say((await run('holdfast', ['records', changed], atController)).trimEnd().replace(/^/gm, '     '))
    for (const file of ['holdfast.db', 'holdfast.db-wal']) requireNoName(place.path('server', file), changed)

    step(`Done: backed up, recorded, restored, verified.`)
    say(`     Console  ${url}/`)
    say(`     Queues   ${url}/queues`)
    say(
      `     Log in   demo / ${administrator.password} / code ${codeNow(administrator)} (now; secret ${new URL(administrator.otpauth).searchParams.get('secret')})`,
    )
    if (values.exit) return 0
    say('     Ctrl-C ends everything and removes the folder.')
    await new Promise<void>((resolve) => {
      const tick = setInterval(() => process.stdout.isTTY && process.stdout.write(`\r     Code now ${codeNow(administrator)} `), 1000)
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve(clearInterval(tick)))
    })
    return 0
  } catch (error) {
    say(`\nThe demonstration failed: ${error instanceof Error ? error.message : String(error)}`)
    for (const log of ['server.log', 'agent.log', 'controller.log']) sayTail(place.path(log))
    return 1
  } finally {
    await stopAll()
    await redis?.stop()
    await store?.s3?.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The server must not hold a name of what was backed up (O14). */
function requireNoName(file: string, path: string): void {
  try {
    if (readFileSync(file).includes(path.slice(path.lastIndexOf('/') + 1))) throw new Error(`the server's ${file} holds a file name`)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

function sayTail(file: string): void {
  try {
    say(`--- ${file}\n${readFileSync(file, 'utf8').trimEnd().split('\n').slice(-15).join('\n')}`)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

process.exitCode = await main()

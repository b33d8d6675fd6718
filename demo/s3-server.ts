// A real S3 server on loopback: Ceph's RADOS Gateway with one monitor and one in-memory OSD, about two seconds after an
// empty folder. Uses what is installed; else says what it fetches and fetches it: with apt as root, unpacked into a cache
// folder otherwise. Listens on 127.0.0.1 alone, and ends with the process that started it.
import type { ChildProcess } from 'node:child_process'
import { execFile, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, rmSync } from 'node:fs'
import { access, mkdir, mkdtemp, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { systemClock } from '@holdfast/shared/clock.ts'
import { LazyS3Client } from '@holdfast/shared/store/s3-client.ts'
import { freePorts } from '../test/_support/ports.ts'

const run = promisify(execFile)
const INSTALL = ['ceph-mon', 'ceph-osd', 'radosgw']
/** What a Debian 12 host without them lacks; unpacked side by side when there is no right to install. */
const UNPACK =
  'ceph-base ceph-common ceph-mon ceph-osd radosgw librados2 libaio1 libboost-context1.74.0 libboost-thread1.74.0 libdaxctl1 libfmt9 libibverbs1 libleveldb1d liblua5.3-0 libndctl6 libnl-3-200 libnl-route-3-200 liboath0 libpmem1 librabbitmq4 librdmacm1 libsnappy1v5 python3-rados python3-ceph-argparse python3-prettytable python3-wcwidth'.split(
    ' ',
  )
const START_LIMIT_MS = 60_000
/** One installation at a time, also of several test processes. */
const INSTALL_LOCK = join(tmpdir(), `holdfast-ceph-install-${process.getuid?.() ?? 0}.lock`)

/** Where the programs are: on the system, or unpacked below `root`. */
export type CephPrograms = { readonly root: string | undefined }

export type S3Server = {
  readonly endpoint: string
  /** The same server over TLS, where it was asked for. */
  readonly tlsEndpoint: string | undefined
  readonly accessKey: string
  readonly secretKey: string
  readonly folder: string
  readonly pids: { readonly monitor: number; readonly osd: number; readonly gateway: number }
  createBucket(name: string, options?: { versioning?: boolean; lock?: boolean }): Promise<void>
  /** Sets who may do what in a bucket. */
  setBucketPolicy(name: string, policy: object): Promise<void>
  /** Runs `radosgw-admin`, e.g. to make users and roles; resolves with what it prints. */
  admin(...args: string[]): Promise<string>
  /** Ends the server and forgets its data. */
  stop(): Promise<void>
}

export type S3ServerOptions = {
  /** Told in plain lines what is about to be fetched. */
  readonly say?: (line: string) => void
  /** Whether to fetch what is missing (default), and to do so even where it is installed, without touching the system. */
  readonly install?: boolean
  readonly unpack?: boolean
  readonly cacheFolder?: string
  /** Paths of a PEM certificate and its key. */
  readonly tls?: { readonly certificate: string; readonly key: string }
}

/** Finds or fetches the server's programs; undefined, after saying why, where that cannot be done. */
export async function provideCeph(options: S3ServerOptions = {}): Promise<CephPrograms | undefined> {
  const say = options.say ?? (() => undefined)
  if (options.unpack !== true && INSTALL.every((name) => existsSync(`/usr/bin/${name}`)) && existsSync('/usr/bin/ceph'))
    return { root: undefined }
  const root = options.cacheFolder ?? join(homedir(), '.cache', 'holdfast', 'ceph')
  if (existsSync(join(root, 'complete'))) return { root }
  if (options.install === false) return undefined
  try {
    if (process.getuid?.() === 0 && options.unpack !== true) {
      say(`Installing Ceph's S3 server with apt: ${INSTALL.join(' ')} and what they need (about 69 MB to fetch, 256 MiB on disk).`)
      await apt(['install', '-y', '--no-install-recommends', ...INSTALL])
      return { root: undefined }
    }
    say(`Fetching Ceph's S3 server (about 51 MiB) and unpacking it into ${root} (195 MiB); nothing is installed on the system.`)
    await unpack(root)
    return { root }
  } catch (error) {
    say(`Ceph's S3 server cannot be had here: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)}`)
    return undefined
  }
}

async function apt(args: string[], cwd?: string): Promise<void> {
  const options = { maxBuffer: 64 * 1024 * 1024, ...(cwd === undefined ? {} : { cwd }) }
  const command = ['DEBIAN_FRONTEND=noninteractive', 'flock', INSTALL_LOCK, 'apt-get', ...args]
  try {
    await run('env', command, options)
  } catch (error) {
    // Fresh machines have no package lists; only root can fetch them.
    if (process.getuid?.() !== 0) throw error
    await run('env', ['DEBIAN_FRONTEND=noninteractive', 'flock', INSTALL_LOCK, 'apt-get', 'update'], options)
    await run('env', command, options)
  }
}

/** Unpacks beside and renames, so that a half-finished tree is never used. */
async function unpack(root: string): Promise<void> {
  await mkdir(join(root, '..'), { recursive: true })
  const work = await mkdtemp(`${root}-`)
  try {
    const packages = join(work, 'packages')
    await mkdir(packages)
    await apt(['download', ...UNPACK], packages)
    for (const name of UNPACK) await run('sh', ['-c', `dpkg-deb -x "$1"/${name}_*.deb "$2"`, 'sh', packages, work])
    await rm(packages, { recursive: true })
    await writeFile(join(work, 'complete'), '')
    await rename(work, root).catch((error: unknown) => {
      // Another process was first.
      if (!existsSync(join(root, 'complete'))) throw error
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

function libraryFolder(root: string): string {
  return join(root, 'usr/lib', process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu')
}

/** Starts a fresh, empty server. Rejects where the programs are missing or it does not come up within a minute. */
export async function startS3Server(programs: CephPrograms, options: S3ServerOptions = {}): Promise<S3Server> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-s3-'))
  const [monitorPort = 0, port = 0, tlsPort = 0] = await freePorts(3)
  const cluster = new Cluster(programs, folder)
  try {
    for (const name of ['mon', 'osd', 'run', 'log', 'crash', 'rgw']) await mkdir(join(folder, name))
    await writeFile(join(folder, 'keyring'), '')
    const [fsid, osdId] = [randomUUID(), randomUUID()]
    await writeFile(cluster.config, configText(programs, folder, { fsid, monitorPort, port, tlsPort, tls: options.tls }))
    const monmap = join(folder, 'monmap')
    await cluster.run('monmaptool', ['--create', '--clobber', '--fsid', fsid, '--addv', 'a', `[v2:127.0.0.1:${monitorPort}]`, monmap])
    await cluster.run('ceph-mon', [...cluster.k, '-i', 'a', '--mkfs', '--monmap', monmap])
    const monitor = await cluster.start('ceph-mon', ['-i', 'a', '-f'])
    await cluster.run('ceph', [...cluster.k, '--connect-timeout', '20', 'osd', 'new', osdId])
    await cluster.run('ceph-osd', [...cluster.k, '-i', '0', '--mkfs', '--osd-uuid', osdId])
    const osd = await cluster.start('ceph-osd', ['-i', '0', '-f'])
    const gateway = await cluster.start('radosgw', ['-n', 'client.rgw', '-f'])
    const endpoint = `http://127.0.0.1:${port}`
    await cluster.untilAnswers(endpoint)
    const accessKey = randomUUID().replaceAll('-', '').slice(0, 20).toUpperCase()
    const secretKey = randomUUID().replaceAll('-', '')
    const admin = (...args: string[]): Promise<string> => cluster.run('radosgw-admin', [...cluster.k, ...args])
    await admin('user', 'create', '--uid=t', '--display-name=t', `--access-key=${accessKey}`, `--secret-key=${secretKey}`, '--caps=roles=*')
    return {
      endpoint,
      tlsEndpoint: options.tls === undefined ? undefined : `https://127.0.0.1:${tlsPort}`,
      accessKey,
      secretKey,
      folder,
      pids: { monitor, osd, gateway },
      admin,
      createBucket: (name, bucket = {}) => createBucket({ endpoint, accessKey, secretKey }, name, bucket),
      setBucketPolicy: (name, policy) =>
        withClient({ endpoint, accessKey, secretKey }, name, async ({ sdk, client }) => {
          await client.send(new sdk.PutBucketPolicyCommand({ Bucket: name, Policy: JSON.stringify(policy) }))
        }),
      stop: () => cluster.stop(),
    }
  } catch (error) {
    await cluster.stop()
    throw error
  }
}

type Access = { readonly endpoint: string; readonly accessKey: string; readonly secretKey: string }

async function withClient(
  server: Access,
  bucket: string,
  work: (loaded: Awaited<ReturnType<LazyS3Client['load']>>) => Promise<void>,
): Promise<void> {
  const credentials = { accessKeyId: server.accessKey, secretAccessKey: server.secretKey }
  const lazy = new LazyS3Client({ endpoint: server.endpoint, bucket, credentials })
  try {
    await work(await lazy.load())
  } finally {
    await lazy.destroy()
  }
}

function createBucket(server: Access, name: string, options: { versioning?: boolean; lock?: boolean }): Promise<void> {
  return withClient(server, name, async ({ sdk, client }) => {
    await client.send(new sdk.CreateBucketCommand({ Bucket: name, ObjectLockEnabledForBucket: options.lock === true }))
    if (options.versioning === true)
      await client.send(new sdk.PutBucketVersioningCommand({ Bucket: name, VersioningConfiguration: { Status: 'Enabled' } }))
  })
}

/** The processes of one server and the folder they live in. */
class Cluster {
  readonly folder: string
  readonly config: string
  readonly #programs: CephPrograms
  readonly #children: ChildProcess[] = []
  readonly #atExit = (): void => {
    this.#kill()
    rmSync(this.folder, { recursive: true, force: true })
  }

  constructor(programs: CephPrograms, folder: string) {
    this.#programs = programs
    this.folder = folder
    this.config = join(folder, 'ceph.conf')
    process.once('exit', this.#atExit)
  }

  get k(): string[] {
    return ['-c', this.config]
  }

  async run(program: string, args: string[]): Promise<string> {
    const [command = '', ...rest] = this.#command(program, args)
    return (await run(command, rest, { maxBuffer: 16 * 1024 * 1024 })).stdout
  }

  async start(program: string, args: string[]): Promise<number> {
    const [command = '', ...rest] = this.#command(program, [...this.k, ...args])
    const log = await open(join(this.folder, 'log', `${program}.out`), 'w')
    try {
      // The kernel ends the child if this process is killed and can clean up nothing.
      const child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...rest], { stdio: ['ignore', log.fd, log.fd] })
      await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject))
      this.#children.push(child)
      return child.pid ?? 0
    } finally {
      await log.close()
    }
  }

  async untilAnswers(endpoint: string): Promise<void> {
    const deadline = systemClock.monotonicMs() + START_LIMIT_MS
    for (;;) {
      const answered = await fetch(endpoint).then(
        (reply) => reply.body?.cancel().then(() => reply.ok) ?? reply.ok,
        () => false,
      )
      if (answered) return
      if (systemClock.monotonicMs() > deadline || this.#children.some((child) => child.exitCode !== null || child.signalCode !== null))
        throw new Error(`the S3 server did not come up: ${await this.#lastWords()}`)
      await systemClock.sleep(25)
    }
  }

  async stop(): Promise<void> {
    process.removeListener('exit', this.#atExit)
    const ended = this.#children.map((child) =>
      child.exitCode !== null || child.signalCode !== null ? undefined : new Promise((resolve) => child.once('exit', resolve)),
    )
    this.#kill()
    await Promise.all(ended)
    await rm(this.folder, { recursive: true, force: true })
  }

  #kill(): void {
    for (const child of this.#children) child.kill('SIGKILL')
  }

  #command(program: string, args: string[]): string[] {
    const { root } = this.#programs
    if (root === undefined) return [program, ...args]
    const libraries = libraryFolder(root)
    return [
      'env',
      `LD_LIBRARY_PATH=${libraries}:${libraries}/ceph:${libraries.replace('/usr/lib/', '/lib/')}:${root}/usr/lib`,
      `PYTHONPATH=${root}/usr/lib/python3/dist-packages`,
      join(root, 'usr/bin', program),
      ...args,
    ]
  }

  async #lastWords(): Promise<string> {
    const path = join(this.folder, 'log', 'radosgw.out')
    const exists = await access(path).then(
      () => true,
      () => false,
    )
    return exists ? (await readFile(path, 'utf8')).slice(-500) : 'it said nothing'
  }
}

function configText(
  programs: CephPrograms,
  folder: string,
  at: { fsid: string; monitorPort: number; port: number; tlsPort: number; tls: S3ServerOptions['tls'] },
): string {
  const libraries = programs.root === undefined ? undefined : libraryFolder(programs.root)
  const secure =
    at.tls === undefined ? '' : ` ssl_endpoint=127.0.0.1:${at.tlsPort} ssl_certificate=${at.tls.certificate} ssl_private_key=${at.tls.key}`
  return `[global]
fsid = ${at.fsid}
mon_host = v2:127.0.0.1:${at.monitorPort}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
# without cephx the gateway's default, "secure", cannot work
ms_mon_client_mode = crc
# pools come up at one map change per interval
paxos_propose_interval = 0.05
run_dir = ${folder}/run
admin_socket = ${folder}/run/$name.asok
log_file = ${folder}/log/$name.log
mon_cluster_log_file = ${folder}/log/cluster.log
crash_dir = ${folder}/crash
keyring = ${folder}/keyring
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 2000
${libraries === undefined ? '' : `plugin_dir = ${libraries}/ceph\nerasure_code_dir = ${libraries}/ceph/erasure-code\nosd_class_dir = ${libraries}/rados-classes`}
[mon]
mon_data = ${folder}/mon
[osd]
osd_data = ${folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
[client]
rgw_data = ${folder}/rgw
rgw_frontends = beast endpoint=127.0.0.1:${at.port} tcp_nodelay=1${secure}
rgw_thread_pool_size = 64
rgw_rados_pool_pg_num_min = 1
# deleted bodies stay in memory for two hours by default
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 5
rgw_lc_debug_interval = 10
rgw_s3_auth_use_sts = true
rgw_sts_key = abcdefghijklmnop
`
}

// From what was named to what a command works with: the store, its description, the keys of whoever calls, the repository. Who may do what is
// decided by what can be opened: an enrolled agent has write keys and structure, whoever can open a wrap of the root has everything.
import { existsSync } from 'node:fs'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import { openStateDirectory } from '../backup/state-lock.ts'
import { posixFileSystem } from '../file-system/posix-file-system.ts'
import { rootKeys, type RootKeys } from '../keys/domain.ts'
import { keyNameOf, type NamedObject, type UnlockedRoot, unlockRoot } from '../keys/key-object.ts'
import type { StructureKeys, WriteKeys } from '../keys/keys.ts'
import { readSecret } from '../keys/secret-source.ts'
import { directoryObjectCache, type ObjectCache } from '../repository/object-cache.ts'
import {
  assumedDescription,
  type Description,
  findDescription,
  lostError,
  openRepository,
  type Repository,
} from '../repository/repository.ts'
import { openStore, parseLocation, storeConfigFromEnv } from '@holdfast/shared/store/location.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { type AgentIdentity, findAgent } from './agent-identity.ts'
import { shownText } from './byte-text.ts'
import type { Context } from './context.ts'
import { domainDirectoryPath, KEY_BYTES_MAX, keyFilesOf } from './domain-directory.ts'

/** Opens the store that --repo or HOLDFAST_REPO names. Throws `usage` where neither does. */
export async function openNamedStore(
  context: Context,
  options: { create?: boolean; uploadBytesPerSecond?: number | undefined } = {},
): Promise<Store> {
  const named = context.options.repo ?? context.settings.repo
  if (named === undefined || named === '')
    throw new HoldfastError(
      'usage',
      'which repository? Name it with --repo or HOLDFAST_REPO: a directory, or s3:https://host[:port]/bucket[/prefix]',
    )
  const config = storeConfigFromEnv(context.env)
  const { uploadBytesPerSecond } = options
  try {
    return await openStore(
      named,
      { ...config, ...(uploadBytesPerSecond === undefined ? {} : { uploadBytesPerSecond }) },
      { clock: context.clock, random: context.random, create: options.create === true },
    )
  } catch (error) {
    if (!isHoldfastError(error, 'store-unreachable') || !isMissingDirectory(named)) throw error
    throw new HoldfastError(
      'no-repository',
      `there is no repository at ${shownText(named)}: nothing is there. Is the disk or share mounted? 'holdfast init' makes one`,
      { cause: error },
    )
  }
}

function isMissingDirectory(named: string): boolean {
  const location = parseLocation(named)
  return location.kind === 'directory' && !existsSync(location.path)
}

/** Opens the store, gives it to `work`, and closes it whatever happens. */
export async function withStore<T>(
  context: Context,
  options: { create?: boolean; uploadBytesPerSecond?: number | undefined },
  work: (store: Store) => Promise<T>,
): Promise<T> {
  const store = await openNamedStore(context, options)
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}

export type KeyPlace = { readonly place: 'store' | 'directory'; readonly shown: string; readonly keys: readonly NamedObject[] }

/** Key objects of a domain, wherever they are: beside the data, where the domain is not enrolled, and in the domain's local directory. */
export async function findKeyObjects(
  context: Context,
  store: Store,
  description: Pick<Description, 'domainId' | 'enrolled'>,
): Promise<KeyPlace[]> {
  const places: KeyPlace[] = []
  if (!description.enrolled) {
    const keys: NamedObject[] = []
    for await (const page of store.list('keys/', { signal: context.signal }))
      for (const { name } of page) {
        if (!/^keys\/[0-9a-f]{32}$/.test(name)) continue
        try {
          const read = (): Promise<Buffer> => store.get(name, { limitBytes: KEY_BYTES_MAX, signal: context.signal })
          const first = await read()
          // One that is not what its name says is read again: a key that came in the place of another would be taken away in its place.
          keys.push({ name: name.slice(5), bytes: `keys/${keyNameOf(first)}` === name ? first : await read() })
        } catch (error) {
          // Too long, or gone since the listing: it opens nothing, and must not keep another key from opening.
          if (!(error instanceof HoldfastError) || (error.code !== 'too-large' && error.code !== 'not-found')) throw error
        }
      }
    places.push({ place: 'store', shown: 'in the repository', keys })
  }
  const path = domainDirectoryPath(context, description.domainId)
  places.push({ place: 'directory', shown: path, keys: keyFilesOf(context, path) })
  return places
}

/** Stores a key object beside the data and reads it back: the next step may take away the only other key. */
export async function storeKey({ signal }: Context, store: Store, name: string, bytes: Buffer): Promise<void> {
  const object = `keys/${name}`
  await store.put(object, { kind: 'bytes', bytes }, { signal })
  const stored = await store.get(object, { limitBytes: KEY_BYTES_MAX, signal }).catch((error: unknown) => {
    if (isHoldfastError(error, 'not-found', 'too-large')) return undefined
    throw error
  })
  if (stored?.equals(bytes) !== true)
    throw new HoldfastError(
      'store-unsuitable',
      `the store does not give back key ${name} as it was put; no other key was taken away. 'holdfast doctor' tries the store out`,
    )
}

export type Unlocked = { readonly keys: RootKeys; readonly root: UnlockedRoot; readonly places: readonly KeyPlace[] }

/** The root of the repository's domain, opened with the passphrase or recovery code. Throws as `unlockRoot` does. */
export async function unlock(context: Context, store: Store, description: Pick<Description, 'domainId' | 'enrolled'>): Promise<Unlocked> {
  const places = await findKeyObjects(context, store, description)
  const candidates = places.flatMap(({ keys }) => keys)
  if (candidates.length === 0)
    throw new HoldfastError(
      description.enrolled ? 'grant-required' : 'not-found',
      description.enrolled
        ? `the keys of this domain are with its controller: restores here need a grant (holdfast request, holdfast grant), or run this where the domain's directory is (--domain-dir)`
        : `no key of this repository is in it or in ${domainDirectoryPath(context, description.domainId)}; name the directory that holds one with --domain-dir`,
    )
  const root = await openWithSecret(context, candidates, description.domainId)
  return { keys: rootKeys(root), root, places }
}

/** A person at a terminal may mistype; what the environment gives is given once. */
async function openWithSecret(context: Context, candidates: readonly NamedObject[], domainId: Buffer): Promise<UnlockedRoot> {
  const terminal = context.terminal()
  for (let asked = 1; ; asked++) {
    const secret = await readSecret({ env: context.env, terminal, purpose: 'open' })
    try {
      return await unlockRoot(candidates, secret, domainId)
    } catch (error) {
      const isTyped = terminal !== undefined && !SECRET_VARIABLES.some((name) => context.env[name] !== undefined)
      if (!isHoldfastError(error, 'wrong-passphrase') || !isTyped || asked === QUESTIONS_MAX) throw error
      terminal.say('That passphrase opens nothing here.')
    }
  }
}

const QUESTIONS_MAX = 3
const SECRET_VARIABLES = ['HOLDFAST_PASSWORD', 'HOLDFAST_PASSWORD_FILE', 'HOLDFAST_PASSWORD_COMMAND', 'HOLDFAST_RECOVERY_CODE'] as const

export type Opened<K> = { readonly store: Store; readonly repository: Repository; readonly keys: K }

/** Who works on the repository: the root, or an enrolled agent. */
export type Holder =
  | { readonly kind: 'root'; readonly structure: StructureKeys; readonly write: WriteKeys; readonly root: RootKeys }
  | { readonly kind: 'agent'; readonly structure: StructureKeys; readonly write: WriteKeys; readonly agent: AgentIdentity }

/**
 * `write`: an enrolled agent uses its own keys and nobody is asked; `read`: the root is needed. A command that works where the repository's
 * description is lost says with `lost` who tells of that: a notice, or the command in its own words. Others are refused.
 */
export type Need = { readonly need: 'write' | 'read'; readonly lost: 'notice' | 'own words' }

/** Opens the repository for whoever calls. */
export async function withRepository<T>(
  context: Context,
  needs: Need | Need['need'],
  work: (opened: { store: Store; repository: Repository; holder: Holder }) => Promise<T>,
  options: { uploadBytesPerSecond?: number | undefined; copies?: boolean } = {},
): Promise<T> {
  const { need, lost } = typeof needs === 'string' ? { need: needs, lost: undefined } : needs
  return withStore(context, options, async (store) => {
    const found = await findDescription(store, context.signal)
    const { trouble } = found
    if (trouble !== undefined && lost === undefined) throw lostError(store, trouble)
    const holder = await findHolder(context, store, found, need)
    const description = found.trouble === undefined ? found : assumedDescription(found, holder.structure)
    if (trouble !== undefined && lost === 'notice')
      context.report.say({ event: 'notice', level: 'warning', message: lostError(store, trouble).message })
    // Only a backup uses copies: whoever reads or checks wants to know what the store really has, with whatever keys.
    const copies = options.copies === true ? openCopies(context, description.domainId) : undefined
    try {
      const repository = await openRepository({ store, keys: holder.structure, description, cache: copies?.cache, signal: context.signal })
      return await work({ store, repository, holder })
    } finally {
      copies?.close()
    }
  })
}

function openCopies(context: Context, domainId: Buffer): { cache: ObjectCache; close: () => void } {
  const path = `${context.settings.cacheHome}/holdfast/objects/${domainId.toString('hex')}`
  const directory = openStateDirectory(posixFileSystem, Buffer.from(path))
  return { cache: directoryObjectCache(posixFileSystem, directory), close: () => posixFileSystem.close(directory) }
}

async function findHolder(
  context: Context,
  store: Store,
  description: Pick<Description, 'domainId' | 'enrolled'>,
  need: 'write' | 'read',
): Promise<Holder> {
  const agent = need === 'write' ? await findAgent(context, description.domainId) : undefined
  if (agent !== undefined) return { kind: 'agent', structure: agent.keys.structure, write: agent.keys, agent }
  const { keys } = await unlock(context, store, description)
  return { kind: 'root', structure: keys.write.structure, write: keys.write, root: keys }
}

/** The holder where it must be the root. */
export function rootOf(holder: Holder): RootKeys {
  if (holder.kind !== 'root')
    throw new HoldfastError('grant-required', 'this needs the root of the domain, which an enrolled agent does not hold')
  return holder.root
}

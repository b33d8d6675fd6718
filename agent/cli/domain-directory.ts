// The controller's directory of a domain, on the controller's own machine: `domain.json`, which says what the domain is, and `keys/`, the wraps
// of its root. Private (0700) and replaced file by file; it holds no key that opens anything without passphrase or recovery code.
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import { openStateDirectory, type StateDirectory } from '../daemon/state-directory.ts'
import { posixFileSystem } from '../file-system/posix-file-system.ts'
import type { NamedObject } from '../keys/key-object.ts'
import type { Context } from './context.ts'

const DOMAIN_FILE = 'domain.json'
const DOMAIN_FILE_BYTES_MAX = 64 * 1024
export const KEY_BYTES_MAX = 4096
const KEY_NAME = /^[0-9a-f]{32}$/

/** Where the domain's directory is: `--domain-dir`, `HOLDFAST_DOMAIN_DIR`, or by its id below the user's configuration. */
export function domainDirectoryPath(context: Context, domainId: Buffer): string {
  const { options, settings, cwd } = context
  const named = options.domainDir
  if (named !== undefined) return named.startsWith('/') ? named : `${cwd.toString()}/${named}`
  return settings.domainDirectory ?? `${settings.configHome}/holdfast/domains/${domainId.toString('hex')}`
}

/** Opens the directory. Without `create`, undefined where there is none. */
export function openDomainDirectory(context: Context, path: string, create: boolean): StateDirectory | undefined {
  try {
    return openStateDirectory({
      fileSystem: posixFileSystem,
      path: Buffer.from(path),
      random: context.random,
      create,
      ...(context.uid === undefined ? {} : { uid: context.uid }),
    })
  } catch (error) {
    if (!create && error instanceof HoldfastError && error.code === 'not-found') return undefined
    throw error
  }
}

/** Says what the domain is; refuses a directory that holds another one. */
export function writeDomainFile(
  directory: StateDirectory,
  domain: { domainId: Buffer; signPublicKey: Buffer; fingerprint: string; repository: string; createdAt: number },
): void {
  const bytes = directory.read(DOMAIN_FILE, DOMAIN_FILE_BYTES_MAX)
  if (bytes !== undefined)
    throw new HoldfastError(
      'already-exists',
      `${printable(directory.path.toString())} holds a domain already; name another directory with --domain-dir`,
    )
  const value = {
    v: 1,
    domainId: domain.domainId.toString('hex'),
    signPublicKey: domain.signPublicKey.toString('base64url'),
    fingerprint: domain.fingerprint,
    repository: domain.repository,
    createdAt: isoTime(domain.createdAt),
  }
  directory.write(DOMAIN_FILE, Buffer.from(`${JSON.stringify(value, null, 2)}\n`))
}

/** The key objects in the directory; empty where there is none. Files under other names are passed over. */
export function keyFilesOf(context: Context, path: string): NamedObject[] {
  return inKeyFiles(context, path, (keys) =>
    keys
      .names()
      .filter((name) => KEY_NAME.test(name))
      .sort()
      .flatMap((name) => {
        const bytes = keys.read(name, KEY_BYTES_MAX)
        return bytes === undefined ? [] : [{ name, bytes }]
      }),
  )
}

/** All names in the directory of key files, also those that are no keys; empty where there is none. */
export function namesBesideKeys(context: Context, path: string): string[] {
  return inKeyFiles(context, path, (keys) => keys.names())
}

function inKeyFiles<T>(context: Context, path: string, look: (keys: StateDirectory) => T[]): T[] {
  const directory = openDomainDirectory(context, path, false)
  if (directory === undefined) return []
  try {
    if (!directory.names().includes('keys')) return []
    const keys = directory.below('keys')
    try {
      return look(keys)
    } finally {
      keys.close()
    }
  } finally {
    directory.close()
  }
}

/** Runs `act` on the directory of key files, making it where it is missing. */
export function withKeyFiles<T>(context: Context, path: string, act: (keys: StateDirectory) => T): T {
  const directory = openDomainDirectory(context, path, true)!
  try {
    const keys = directory.below('keys')
    try {
      return act(keys)
    } finally {
      keys.close()
    }
  } finally {
    directory.close()
  }
}

// `holdfast init`: makes a repository. For one person: root wrapped by passphrase and recovery code, kept beside the data where the store can
// forget a key again, else in a local directory. With --domain, for a controller with agents: the wraps never leave this machine.
import { readdirSync } from 'node:fs'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Command } from 'commander'
import { domainFingerprint } from '../../keys/bundle.ts'
import { newDomainRoot, rootKeys } from '../../keys/domain.ts'
import { makeRecoveryCode, printRecoveryCode } from '../../keys/recovery-code.ts'
import { keyNameOf, type NamedObject, wrapRoot } from '../../keys/key-object.ts'
import { readSecret } from '../../keys/secret-source.ts'
import { type Chunking, createRepository, DEFAULT_CHUNKING, findDescription } from '../../repository/repository.ts'
import { judgeCapabilities, probeStore, requireSuitable, type StoreCapabilities } from '@holdfast/shared/store/capabilities.ts'
import { parseLocation } from '@holdfast/shared/store/location.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { shownText } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { domainDirectoryPath, openDomainDirectory, withKeyFiles, writeDomainFile } from '../domain-directory.ts'
import { parseSize } from '../format.ts'
import { openNamedStore, storeKey, withStore } from '../open.ts'

type InitFlags = {
  readonly domain?: boolean
  readonly chunking: string
  readonly minSize?: string
  readonly meanSize?: string
  readonly maxSize?: string
  readonly acceptOverwrite?: boolean
  readonly amongFiles?: boolean
}

export function define(command: Command, start: Start): void {
  command
    .description(
      'Makes a repository in a directory or bucket. The store is tried out first and refused where it cannot keep a promise. ' +
        'A new passphrase is asked for twice (or HOLDFAST_PASSWORD*), and a recovery code is shown once.',
    )
    .option('--domain', 'for a controller with enrolled agents: the keys stay on this machine and never go to the store')
    .option('--chunking <mode>', 'gear (by content, the default) or fixed (for disk images)', 'gear')
    .option('--min-size <size>', 'smallest chunk (gear: 512K)')
    .option('--mean-size <size>', 'mean size of a chunk (gear: 1M), or the size of each (fixed: 512K)')
    .option('--max-size <size>', 'largest chunk (gear: 4M)')
    .option('--accept-overwrite', 'use a store whose credentials can overwrite what is there, and say so')
    .option('--among-files', 'make the repository in a directory that holds other things')
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast init --repo /mnt/backup
  $ holdfast init --repo s3:https://objects.example/backup/site-1
  $ holdfast init --domain --repo s3:https://objects.example/backup/customer-7

Where the bucket keeps versions or locks objects, a key that was removed could not be forgotten there: the keys
then stand in ~/.config/holdfast/domains/<domain id> (or --domain-dir). Copy that directory; without it and
without the recovery code nothing can be read.`,
    )
    .action((flags: InitFlags) => start('init', (context) => init(context, flags)))
}

async function init(context: Context, flags: InitFlags): Promise<Outcome> {
  const chunking = parseChunking(flags)
  if (context.dryRun && (await isToBeMade(context))) {
    context.report.say({ event: 'notice', level: 'note', message: 'the directory would be made; it is tried out when it is there' })
    return { result: 'done', repository: context.options.repo ?? context.settings.repo ?? '', details: { chunking: { ...chunking } } }
  }
  if (flags.amongFiles !== true) refuseForeignFiles(context)
  return withStore(context, { create: !context.dryRun }, async (store) => {
    await refuseExisting(context, store)
    const capabilities = await probeStore(store, context)
    const findings = judgeCapabilities(capabilities, { acceptOverwrite: flags.acceptOverwrite === true })
    for (const { level, text } of findings) if (level === 'warn') context.report.say({ event: 'notice', level: 'warning', message: text })
    requireSuitable(findings)

    const domain = newDomainRoot(context.random)
    const keys = rootKeys(domain)
    const { structure } = keys.write
    const fingerprint = domainFingerprint(domain.domainId, structure.signPublicKey)
    const enrolled = flags.domain === true
    const place = enrolled || !canForget(capabilities) ? 'directory' : 'store'
    const directory = domainDirectoryPath(context, domain.domainId)
    const outcome: Outcome = {
      result: 'done',
      repository: store.location,
      domainId: domain.domainId.toString('hex'),
      domainFingerprint: fingerprint,
      place: place === 'store' ? 'in the repository' : directory,
      details: { enrolled, keys: place, chunking: { ...chunking } },
    }
    if (context.dryRun) return outcome
    const secret = await readSecret({ env: context.env, terminal: context.terminal(), purpose: 'new' })
    const code = makeRecoveryCode(context.random)
    const createdAt = Math.floor(context.clock.now())
    const wrapped = { ...domain, createdAt, random: context.random }
    const wraps = [
      await wrapRoot({ ...wrapped, secret, label: 'first passphrase' }),
      await wrapRoot({ ...wrapped, secret: { recoveryCode: printRecoveryCode(code) }, label: 'recovery code' }),
    ] as const
    const objects: NamedObject[] = wraps.map((bytes) => ({ name: keyNameOf(bytes), bytes }))
    // The keys are durable before the repository is there: a crash in between leaves wraps that open nothing, never data without a key.
    const forget = await storeKeys(context, store, place, directory, objects, {
      domainId: domain.domainId,
      signPublicKey: structure.signPublicKey,
      fingerprint,
      createdAt,
    })
    try {
      await createRepository({ store, keys: keys.write, signer: keys.signing, chunking, enrolled, now: createdAt })
    } catch (error) {
      // Only where it is certain that the description is another's: after any other failure ours may stand, and would have no key.
      if (isHoldfastError(error, 'already-exists')) await forget()
      throw error
    }
    if (!enrolled && place === 'directory')
      context.report.say({
        event: 'notice',
        level: 'warning',
        message: `this store keeps versions or locks (or does not say), so the keys stand in ${directory} and not in it; copy that directory to a safe place`,
      })
    context.report.say({ event: 'recovery-code', code: printRecoveryCode(code) })
    return outcome
  })
}

/** A directory that is not there yet is no mistake of `init`. */
async function isToBeMade(context: Context): Promise<boolean> {
  try {
    await (await openNamedStore(context)).close()
    return false
  } catch (error) {
    if (isHoldfastError(error, 'no-repository')) return true
    throw error
  }
}

/** True where a removed key is gone: wraps of the root never live in versioned or locked storage (design, section 3). */
function canForget({ kind, versioning, objectLock }: StoreCapabilities): boolean {
  return kind === 'directory' || (versioning === 'off' && objectLock !== 'on')
}

/** What a repository has at its top, also one that an interrupted `init` left, and what a new file system brings along. */
const OWN_NAMES = /^(?:repository|keys|sessions|packs|index|snapshots|rosters|lists|ends|probe|tmp|lost\+found)$/

/** A directory with somebody's files is a mistyped one more often than not, and a repository among them is hard to tell from them. */
function refuseForeignFiles(context: Context): void {
  const named = context.options.repo ?? context.settings.repo ?? ''
  const location = named === '' ? undefined : parseLocation(named, { allowPlainHttp: true })
  if (location?.kind !== 'directory') return
  const foreign = namesIn(location.path).filter((name) => !OWN_NAMES.test(name))
  const [first] = foreign
  if (first !== undefined)
    throw new HoldfastError(
      'conflict',
      `${shownText(location.path)} is no repository and holds other things ('${shownText(first)}'${foreign.length > 1 ? ` and ${foreign.length - 1} more` : ''}); nothing was changed. Name an empty or a new directory, or say --among-files`,
    )
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path).sort()
  } catch {
    // What is not there or is no directory is told of by whoever opens the store.
    return []
  }
}

async function refuseExisting(context: Context, store: Store): Promise<void> {
  try {
    if ((await findDescription(store, context.signal)).trouble !== undefined) return await refuseRemains(context, store)
  } catch (error) {
    if (isHoldfastError(error, 'no-repository')) return refuseRemains(context, store)
    throw error
  }
  throw new HoldfastError('already-exists', `there is a repository at ${store.location} already; nothing was changed`)
}

/**
 * Objects without a description may be a repository that lost it: with a new one beside them nobody could tell whose they are. Keys alone are what an
 * init left that was interrupted: there is nothing that they open.
 */
async function refuseRemains(context: Context, store: Store): Promise<void> {
  for (const prefix of ['snapshots/', 'sessions/', 'index/', 'packs/'])
    for await (const page of store.list(prefix, { signal: context.signal }))
      if (page.length > 0)
        throw new HoldfastError(
          'already-exists',
          `remains of another repository are at ${store.location} (${prefix} holds objects, but the description is missing or damaged); nothing was changed. If it is yours, 'holdfast repair' writes the description anew; or choose another place`,
        )
}

/** Puts the wraps where they belong, durably. What it gives back takes them away again. */
async function storeKeys(
  context: Context,
  store: Store,
  place: 'store' | 'directory',
  directory: string,
  objects: readonly NamedObject[],
  domain: { domainId: Buffer; signPublicKey: Buffer; fingerprint: string; createdAt: number },
): Promise<() => Promise<void>> {
  if (place === 'store') {
    for (const { name, bytes } of objects) await storeKey(context, store, name, bytes)
    return async () => {
      for (const { name } of objects) await store.remove(`keys/${name}`)
    }
  }
  const opened = openDomainDirectory(context, directory, true)!
  try {
    writeDomainFile(opened, { ...domain, repository: store.location })
  } finally {
    opened.close()
  }
  withKeyFiles(context, directory, (keys) => {
    for (const { name, bytes } of objects) keys.write(name, bytes)
  })
  return async () => {
    withKeyFiles(context, directory, (keys) => {
      for (const { name } of objects) keys.remove(name)
    })
    const again = openDomainDirectory(context, directory, false)
    again?.remove('domain.json')
    again?.close()
  }
}

function parseChunking(flags: InitFlags): Chunking {
  if (flags.chunking !== 'gear' && flags.chunking !== 'fixed')
    throw new HoldfastError('usage', `--chunking is gear or fixed, not '${flags.chunking}'`)
  const size = (text: string | undefined, option: string, otherwise: number): number =>
    text === undefined ? otherwise : parseSize(text, option)
  if (flags.chunking === 'fixed') {
    if (flags.minSize !== undefined || flags.maxSize !== undefined)
      throw new HoldfastError('usage', '--min-size and --max-size go with --chunking gear; fixed chunks have one size, --mean-size')
    const mean = size(flags.meanSize, '--mean-size', 512 * 1024)
    if (mean < 256 * 1024 || mean > 2 ** 20) throw new HoldfastError('usage', 'with --chunking fixed, --mean-size is from 256K to 1M')
    return { mode: 'fixed', min: mean, mean, max: mean }
  }
  const min = size(flags.minSize, '--min-size', DEFAULT_CHUNKING.min)
  const mean = size(flags.meanSize, '--mean-size', DEFAULT_CHUNKING.mean)
  const max = size(flags.maxSize, '--max-size', DEFAULT_CHUNKING.max)
  if (min < 16 * 1024 || max > 16 * 2 ** 20 || !(min < mean && mean < max) || max < 2 * min)
    throw new HoldfastError('usage', 'the sizes of chunks must rise: 16K <= --min-size < --mean-size < --max-size <= 16M')
  return { mode: 'gear', min, mean, max }
}

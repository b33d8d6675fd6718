// `holdfast key`: the wraps of the domain root. A wrap is added before one is removed, the last one stays, and nothing is removed on the word of
// somebody who could not open the repository afterwards.
import { isoTime } from '@holdfast/shared/clock.ts'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Command } from 'commander'
import { keyNameOf, type NamedObject, readKeyObject, type Secret, unlockRoot, wrapRoot } from '../../keys/key-object.ts'
import { makeRecoveryCode, printRecoveryCode } from '../../keys/recovery-code.ts'
import { readSecret } from '../../keys/secret-source.ts'
import { type Description, readDescription } from '../../repository/repository.ts'
import type { Store } from '@holdfast/shared/store/store.ts'
import { shownText } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { domainDirectoryPath, withKeyFiles } from '../domain-directory.ts'
import { keyInfoOf, removeKey, removeKeyFile } from '../key-removal.ts'
import { findKeyObjects, type KeyPlace, storeKey, unlock, withStore } from '../open.ts'

type AddFlags = { readonly recoveryCode?: boolean; readonly label?: string }

export function define(command: Command, start: Start): void {
  command.description('Adds, removes and lists the keys that open the repository: passphrases and recovery codes.').addHelpText(
    'after',
    `
Examples:
  $ holdfast key add                     a second passphrase (HOLDFAST_NEW_PASSWORD*, or asked for)
  $ holdfast key add --recovery-code     a new recovery code, shown once
  $ holdfast key passwd                  another passphrase in place of the one that was given
  $ holdfast key remove 3f2a`,
  )
  command
    .command('add')
    .description('Adds a passphrase, or with --recovery-code a recovery code.')
    .option('--recovery-code', 'make a recovery code and show it once')
    .option('--label <text>', 'a word to know the key by')
    .action((flags: AddFlags) => start('key add', (context) => add(context, flags)))
  command
    .command('remove')
    .description('Removes a key. Another one must be given to show that the repository can still be opened; the last one stays.')
    .argument('<key>', 'its name, or the beginning of it, as key list shows it')
    .action((name: string) => start('key remove', (context) => remove(context, name)))
  command
    .command('list')
    .description('Lists the keys; needs none of them.')
    .action(() => start('key list', list))
  command
    .command('passwd')
    .description(
      'Changes the passphrase: adds the new one, then removes the one that was given, and says (exit 3) where somebody else changed it at the same time.',
    )
    .action(() => start('key passwd', passwd))
}

async function list(context: Context): Promise<Outcome> {
  return withStore(context, {}, async (store) => {
    const description = await readDescription(store, context.signal)
    const places = await findKeyObjects(context, store, description)
    let shown = 0
    for (const { shown: place, keys } of places)
      for (const { name, bytes } of keys) {
        const info = keyInfoOf(name, bytes, description.domainId)
        context.report.say({ event: 'key', name, place, kind: info?.kind ?? 'passphrase', usable: info !== undefined })
        shown += 1
      }
    return { result: 'done', repository: store.location, domainId: description.domainId.toString('hex'), counts: { keys: shown } }
  })
}

async function add(context: Context, flags: AddFlags): Promise<Outcome> {
  return withStore(context, {}, async (store) => {
    const description = await readDescription(store, context.signal)
    const unlocked = await unlock(context, store, description)
    const code = flags.recoveryCode === true ? printRecoveryCode(makeRecoveryCode(context.random)) : undefined
    const secret: Secret = code === undefined ? await newPassphrase(context) : { recoveryCode: code }
    const place = placeOf(unlocked.places, unlocked.root.keyName)
    const outcome: Outcome = { result: 'done', repository: store.location, place: place.shown }
    if (context.dryRun) return outcome
    const keyName = await addKey(context, store, place, { ...unlocked.root, secret, label: flags.label ?? '' })
    if (code !== undefined) context.report.say({ event: 'recovery-code', code })
    return { ...outcome, keyName }
  })
}

async function passwd(context: Context): Promise<Outcome> {
  return withStore(context, {}, async (store) => {
    const description = await readDescription(store, context.signal)
    const unlocked = await unlock(context, store, description)
    const secret = await newPassphrase(context)
    const place = placeOf(unlocked.places, unlocked.root.keyName)
    const given = place.keys.find(({ name }) => name === unlocked.root.keyName)
    const isPassphrase = given !== undefined && readKeyObject(given.bytes, given.name).kind === 'passphrase'
    const outcome: Outcome = { result: 'done', repository: store.location, place: place.shown }
    if (context.dryRun) return outcome
    const keyName = await addKey(context, store, place, { ...unlocked.root, secret })
    // Whoever changed it meanwhile has taken the given key away, or is told by the next listing.
    const beforeRemoval = await passphrasesOf(context, store, description)
    const isGone = !beforeRemoval.includes(unlocked.root.keyName)
    if (isPassphrase) await removeKey(context, store, description, place, unlocked.root.keyName, keyName)
    else
      context.report.say({
        event: 'notice',
        level: 'note',
        message: "opened with a recovery code: older passphrases still open the repository; 'holdfast key remove' takes them away",
      })
    const known = new Set(isPassphrase && isGone ? [] : unlocked.places.flatMap(({ keys }) => keys.map(({ name }) => name)))
    const others = (await passphrasesOf(context, store, description)).filter((name) => name !== keyName && !known.has(name))
    for (const name of others)
      context.report.say({
        event: 'problem',
        path: `key ${name}`,
        code: 'conflict',
        message: `opens the repository too, with another passphrase: somebody changed it at the same time. If that was not meant, 'holdfast key remove ${name.slice(0, 8)}'`,
      })
    return { ...outcome, result: others.length > 0 ? 'incomplete' : 'done', keyName }
  })
}

async function remove(context: Context, text: string): Promise<Outcome> {
  if (!/^[0-9a-f]{1,32}$/.test(text))
    throw new HoldfastError('usage', `'${shownText(text)}' is no key: give its name as 'holdfast key list' shows it`)
  return withStore(context, {}, async (store) => {
    const description = await readDescription(store, context.signal)
    const places = await findKeyObjects(context, store, description)
    const all = places.flatMap((place) => place.keys.map((key) => ({ place, key })))
    const found = all.filter(({ key }) => key.name.startsWith(text))
    const [first] = found
    if (first === undefined) throw new HoldfastError('not-found', `there is no key ${text}; 'holdfast key list' shows them`)
    if (found.length > 1) throw new HoldfastError('usage', `${found.length} keys begin with ${text}; give more of the name`)
    const isUsable = keyInfoOf(first.key.name, first.key.bytes, description.domainId) !== undefined
    const others = all.filter(({ key }) => key !== first.key)
    const left = others.filter(({ key }) => keyInfoOf(key.name, key.bytes, description.domainId) !== undefined)
    if (left.length === 0)
      throw new HoldfastError(
        'policy',
        'this is the last key: without it nothing could ever be read again. Add another one first (holdfast key add)',
      )
    const usable = left.map(({ key }) => key)
    const proven = isUsable ? await proveAnother(context, usable, description.domainId) : undefined
    const outcome: Outcome = { result: 'done', repository: store.location, keyName: first.key.name, place: first.place.shown }
    if (context.dryRun) return outcome
    if (proven !== undefined) await removeKey(context, store, description, first.place, first.key.name, proven)
    else await removeKeyFile(context, store, first.place, first.key.name)
    return outcome
  })
}

/** Names of the keys that open with a passphrase. */
async function passphrasesOf(context: Context, store: Store, description: Description): Promise<string[]> {
  return (await findKeyObjects(context, store, description))
    .flatMap(({ keys }) => keys)
    .filter(({ name, bytes }) => keyInfoOf(name, bytes, description.domainId)?.kind === 'passphrase')
    .map(({ name }) => name)
}

/** Whoever removes a key shows that one of the others opens. Gives the name of that one. */
async function proveAnother(context: Context, others: readonly NamedObject[], domainId: Buffer): Promise<string> {
  const secret = await readSecret({ env: context.env, terminal: context.terminal(), purpose: 'open' })
  try {
    return (await unlockRoot(others, secret, domainId)).keyName
  } catch (error) {
    if (!isHoldfastError(error, 'wrong-passphrase')) throw error
    throw new HoldfastError(
      'wrong-passphrase',
      'give the passphrase or recovery code of a key that stays: what was given opens none of them. Nothing was removed',
      { cause: error },
    )
  }
}

async function newPassphrase(context: Context): Promise<Secret> {
  return readSecret({ env: context.env, terminal: context.terminal(), purpose: 'new', prefix: 'HOLDFAST_NEW' })
}

/** New keys go where the one that opened stands. */
function placeOf(places: readonly KeyPlace[], keyName: string): KeyPlace {
  const place = places.find(({ keys }) => keys.some(({ name }) => name === keyName))
  if (place === undefined) throw new HoldfastError('failed', 'the key that opened is in no place that keys can be in')
  return place
}

async function addKey(
  context: Context,
  store: Store,
  place: KeyPlace,
  wrap: { root: Buffer; domainId: Buffer; secret: Secret; label?: string },
): Promise<string> {
  const createdAt = Math.floor(context.clock.now())
  const { root, domainId, secret, label = '' } = wrap
  const given = label === '' ? `added ${isoTime(createdAt).slice(0, 10)}` : label
  const bytes = await wrapRoot({ root, domainId, secret, label: given, createdAt, random: context.random })
  const name = keyNameOf(bytes)
  if (place.place === 'store') await storeKey(context, store, name, bytes)
  else withKeyFiles(context, domainDirectoryPath(context, domainId), (keys) => keys.write(name, bytes))
  return name
}

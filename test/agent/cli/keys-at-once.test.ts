// Two who change keys at once. The second works while the first waits for its passphrase: the shell command that gives it does the other's work.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { afterAll, beforeEach, expect, it } from 'vitest'
import { keyNameOf } from '../../../agent/keys/key-object.ts'
import { only, Workplace } from './_support/cli.ts'

let place: Workplace
const places: Workplace[] = []
let keys: { name: string; kind: string }[]

beforeEach(async () => {
  place = new Workplace()
  places.push(place)
  await place.json(['init'])
  keys = only((await place.json(['key', 'list'])).events, 'key')
})
afterAll(() => places.forEach((one) => one.close()))

const LAUNCHER = `${import.meta.dirname}/../../../node_modules/.bin/holdfast`
const files = (): string[] => readdirSync(place.path('repo', 'keys')).sort()
/** A command that does the other's work with its own secrets, and then says `secret`. */
const meanwhile = (args: string, env: string, secret: string): string =>
  `env -u HOLDFAST_PASSWORD_COMMAND -u HOLDFAST_NEW_PASSWORD_COMMAND ${env} ${LAUNCHER} ${args} >/dev/null 2>&1; printf '%s' '${secret}'`

it('each removing the key that the other counts on: one gives way, and the last key stays', async () => {
  const second = (await place.json(['key', 'add'], { env: { HOLDFAST_NEW_PASSWORD: 'second' } })).summary.keyName!
  const [first, code] = ['passphrase', 'recovery-code'].map((kind) => keys.find((key) => key.kind === kind)!.name)
  await place.json(['key', 'remove', code!])
  const command = meanwhile(`key remove ${second}`, "HOLDFAST_PASSWORD='correct horse'", 'second')
  const { events, summary } = await place.json(['key', 'remove', first!], {
    env: { HOLDFAST_PASSWORD: undefined, HOLDFAST_PASSWORD_COMMAND: command },
  })
  expect(summary).toMatchObject({ exitCode: 1, code: 'conflict' })
  expect(only(events, 'error')[0]!.message).toMatch(/the last one must stay/)
  expect(files()).toEqual([first])
  expect((await place.json(['snapshots'])).code).toBe(0)
})

it('a key that a stranger stored, which nobody can open, is not the one that stays', async () => {
  const second = (await place.json(['key', 'add'], { env: { HOLDFAST_NEW_PASSWORD: 'second' } })).summary.keyName!
  const [first, code] = ['passphrase', 'recovery-code'].map((kind) => keys.find((key) => key.kind === kind)!.name)
  const junk = readFileSync(place.path('repo', 'keys', code!))
  junk[junk.length - 20]! ^= 1
  writeFileSync(place.path('repo', 'keys', keyNameOf(junk)), junk)
  await place.json(['key', 'remove', code!])
  const command = meanwhile(`key remove ${second}`, "HOLDFAST_PASSWORD='correct horse'", 'second')
  const { summary } = await place.json(['key', 'remove', first!], {
    env: { HOLDFAST_PASSWORD: undefined, HOLDFAST_PASSWORD_COMMAND: command },
  })
  expect(summary).toMatchObject({ exitCode: 1, code: 'conflict' })
  expect((await place.json(['snapshots'])).code).toBe(0)
})

it('a key that somebody is about to remove is not counted on, and a claim that was left goes with its key', async () => {
  const [mine, other] = [keys.find(({ kind }) => kind === 'recovery-code')!.name, keys.find(({ kind }) => kind === 'passphrase')!.name]
  const claim = `removing-${other}-${'a'.repeat(32)}`
  writeFileSync(place.path('repo', 'keys', claim), '1')
  expect((await place.json(['key', 'remove', mine])).summary).toMatchObject({ exitCode: 1, code: 'conflict' })
  expect(files()).toEqual([claim, mine, other].sort())
  await place.json(['key', 'add'], { env: { HOLDFAST_NEW_PASSWORD: 'third' } })
  expect((await place.json(['key', 'remove', other], { env: { HOLDFAST_PASSWORD: 'third' } })).code).toBe(0)
  expect(files()).toHaveLength(2)
  expect(files()).not.toContain(claim)
})

it('both changing the passphrase: who ends last names the other key, how to remove it, and does not end as done', async () => {
  const command = meanwhile('key passwd', "HOLDFAST_PASSWORD='correct horse' HOLDFAST_NEW_PASSWORD=theirs", 'mine')
  const { events, summary } = await place.json(['key', 'passwd'], { env: { HOLDFAST_NEW_PASSWORD_COMMAND: command } })
  expect(summary).toMatchObject({ result: 'incomplete', exitCode: 3 })
  const [theirs, ...more] = files().filter((name) => name !== summary.keyName && !keys.some((key) => key.name === name))
  expect(more).toEqual([])
  expect(only(events, 'problem')).toMatchObject([
    { path: `key ${theirs!}`, message: expect.stringContaining(`holdfast key remove ${theirs!.slice(0, 8)}`) as unknown },
  ])
  for (const passphrase of ['mine', 'theirs'])
    expect((await place.json(['snapshots'], { env: { HOLDFAST_PASSWORD: passphrase } })).code).toBe(0)
  const alone = await place.json(['key', 'passwd'], { env: { HOLDFAST_PASSWORD: 'mine', HOLDFAST_NEW_PASSWORD: 'again' } })
  expect(alone.summary).toMatchObject({ result: 'done', exitCode: 0 })
})

it('a wrong passphrase is told in the right number', async () => {
  expect((await place.run(['snapshots'], { env: { HOLDFAST_PASSWORD: 'wrong' } })).stderr).toContain(
    'it does not open the one key here that takes one',
  )
})

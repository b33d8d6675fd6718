// What the product's own commands back up, the single-file reader restores, and a third party (find, sha256sum, getfattr) finds no
// difference: contents (holes as zeros), names, links, owners, modes, times to the nanosecond, attributes and ACLs.
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { buildAwkwardTree } from '../_support/awkward-tree.ts'
import { runProgram } from '../_support/processes.ts'
import { compareTrees, seesAttributes } from '../_support/tree-manifest.ts'
import { runReader, runReaderList } from './reader-support.ts'

const HOLDFAST = join(import.meta.dirname, '../../node_modules/.bin/holdfast')
const password = 'correct horse battery staple'

/** Each starts many processes. */
const TIMEOUT_MS = 240_000
let base = ''
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'reader-'))
})
afterEach(() => rmSync(base, { recursive: true }))

async function holdfast(...words: readonly string[]): Promise<string> {
  const env = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: base,
    HOLDFAST_REPO: join(base, 'repository'),
    HOLDFAST_PASSWORD: password,
  }
  const ended = await runProgram(HOLDFAST, words, { env })
  if (ended.code !== 0) throw new Error(`holdfast ${words.join(' ')} ended with ${ended.code}: ${ended.stderr}`)
  return ended.stdout
}

/** Sockets are not backed up: whoever listens makes its own. */
const skip = ({ kind }: { readonly kind: string }) => kind === 's'

test('an awkward tree comes back without one difference, from the repository alone, by passphrase and by recovery code', async () => {
  const source = join(base, 'source')
  mkdirSync(source)
  // The reader writes holes as zeros: their content is compared, not their blocks.
  buildAwkwardTree(source, { ordinary: 120, hugeHoleBytes: 48 * 1024 * 1024 })
  const printed = await holdfast('init')
  const recoveryCode = /(?:[0-9a-z]{4}-){8}[0-9a-z]{4}/.exec(printed)?.[0] ?? ''
  await holdfast('backup', source)
  for (const name of readdirSync(join(base, 'repository', 'index'))) rmSync(join(base, 'repository', 'index', name))
  for (const [name, secret] of [
    ['by-passphrase', { password }],
    ['by-code', { recoveryCode }],
  ] as const) {
    const target = join(base, name)
    expect(await runReader(join(base, 'repository'), 'latest', target, secret)).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(seesAttributes).toBe(true)
    expect(await compareTrees(source, join(target, source), { top: true, skip })).toEqual([])
  }
})

test(
  'each snapshot comes back as it was, and the latest is the one begun last',
  async () => {
    const source = join(base, 'source')
    mkdirSync(source)
    writeFileSync(join(source, 'kept'), 'the same in both')
    writeFileSync(join(source, 'changed'), Buffer.alloc(3_000_000, 'first'))
    await holdfast('init')
    await holdfast('backup', source)
    writeFileSync(join(source, 'changed'), Buffer.alloc(3_000_000, 'second'))
    await holdfast('backup', source)
    const list = await runReaderList(join(base, 'repository'), { password })
    const [older = '', newer = ''] = list.stdout.split('\n').map((line) => line.slice(0, 32))
    for (const [id, content] of [
      [older, 'first'],
      [newer, 'second'],
      ['latest', 'second'],
    ] as const) {
      const target = join(base, `target-${id}`)
      expect(await runReader(join(base, 'repository'), id, target, { password })).toMatchObject({ code: 0, stderr: '' })
      expect(readFileSync(join(target, source, 'changed')).equals(Buffer.alloc(3_000_000, content))).toBe(true)
      expect(readFileSync(join(target, source, 'kept'), 'latin1')).toBe('the same in both')
    }
  },
  TIMEOUT_MS,
)

test(
  'a snapshot that was forgotten is marked and not the latest, still comes back by its id, and is the latest again once it was taken back',
  async () => {
    const source = join(base, 'source')
    mkdirSync(source)
    await holdfast('init')
    for (const content of ['first', 'second']) {
      writeFileSync(join(source, 'changed'), content)
      await holdfast('backup', source)
    }
    const list = async () => (await runReaderList(join(base, 'repository'), { password })).stdout.split('\n').slice(0, -1)
    const restored = async (snapshot: string, to: string) => {
      expect(await runReader(join(base, 'repository'), snapshot, join(base, to), { password })).toMatchObject({ code: 0, stderr: '' })
      return readFileSync(join(base, to, source, 'changed'), 'latin1')
    }
    const newer = (await list())[1]?.slice(0, 32) ?? ''
    await holdfast('forget', newer)
    expect((await list()).map((line) => line.includes('Z forgotten  '))).toEqual([false, true])
    expect(await restored('latest', 'forgotten')).toBe('first')
    expect(await restored(newer, 'by-id')).toBe('second')
    await holdfast('undelete', '--all')
    expect((await list()).map((line) => line.includes('Z forgotten  '))).toEqual([false, false])
    expect(await restored('latest', 'taken-back')).toBe('second')
  },
  TIMEOUT_MS,
)

// One person's repository through the real launcher: every command's good way, from an empty folder to a changed passphrase.
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compareTrees } from '../../_support/tree-manifest.ts'
import { only, Workplace } from './_support/cli.ts'

const LATIN = Buffer.from('caf\xe9.txt', 'latin1')
const CONTROL = 'evil\u001b[2Jname\n.txt'

let place: Workplace
let source: string
let firstCode: string

beforeAll(async () => {
  place = new Workplace()
  source = place.path('source')
  mkdirSync(join(source, 'deep', 'er'), { recursive: true })
  writeFileSync(join(source, 'deep', 'er', 'one.txt'), 'one\n'.repeat(50_000))
  writeFileSync(join(source, 'two.bin'), Buffer.alloc(300_000, 'two'))
  writeFileSync(join(source, CONTROL), 'control')
  writeFileSync(Buffer.concat([Buffer.from(`${source}/`), LATIN]), 'latin')
  symlinkSync('deep/er/one.txt', join(source, 'link'))
  // Old enough that the next run may trust the times.
  for (const name of ['two.bin', CONTROL, 'deep/er/one.txt']) utimesSync(join(source, name), 1_600_000_000, 1_600_000_000)
})
afterAll(() => place.close())

describe('a repository of one person', () => {
  it('is made after the store was tried out, and shows its recovery code once', async () => {
    const dry = await place.run(['init', '--dry-run'], { env: { HOLDFAST_REPO: place.path('not-made') } })
    expect(dry.code).toBe(0)
    expect(dry.text).toContain('Would create a repository at')
    expect(existsSync(place.path('not-made'))).toBe(false)
    const { code, events, summary } = await place.json(['init'])
    expect(code).toBe(0)
    const codes = only(events, 'recovery-code')
    expect(codes).toHaveLength(1)
    firstCode = codes[0]!.code
    expect(firstCode).toMatch(/^([0-9a-hjkmnp-tv-z]{4}-){8}[0-9a-hjkmnp-tv-z]{4}$/)
    expect(summary).toMatchObject({ result: 'done', repository: place.repo, place: 'in the repository' })
    expect(readdirSync(join(place.repo, 'keys'))).toHaveLength(2)
  })

  it('is not made twice', async () => {
    const before = readFileSync(join(place.repo, 'repository'))
    const { summary } = await place.json(['init'])
    expect(summary).toMatchObject({ result: 'failed', exitCode: 1, code: 'already-exists' })
    expect(readFileSync(join(place.repo, 'repository'))).toEqual(before)
    expect(readdirSync(join(place.repo, 'keys'))).toHaveLength(2)
  })

  it('takes a backup, and the numbers of text and --json are the same', async () => {
    const dry = await place.json(['backup', '--dry-run', 'source'])
    expect(dry.summary).toMatchObject({ result: 'done', exitCode: 0, dryRun: true, counts: { files: 4 } })
    expect(dry.summary.snapshotId).toBeUndefined()
    // A relative path counts from where the command is given, and options stand before or after the verb.
    const ran = await place.run(['--quiet', 'backup', 'source', '--tag', 'daily'])
    expect(ran).toMatchObject({ code: 0, text: '', stderr: '' })
    const { summary } = await place.json(['snapshots'])
    expect(summary.counts).toMatchObject({ snapshots: 1 })
    const text = await place.run(['backup', './deep/../deep', '--label', 'deep'], { cwd: source })
    expect(text.stderr).toMatch(/processed 1 file, 195\.3 KiB/)
    expect(text.stderr).toMatch(/snapshot [0-9a-f]{8} saved/)
  })

  it('says of an unchanged source that it is unchanged', async () => {
    const { summary, events } = await place.json(['backup', 'source', '--tag', 'daily', '--tag', 'second'])
    expect(summary).toMatchObject({ exitCode: 0, counts: { bytesNew: 0, filesNew: 0 } })
    expect(only(events, 'status').length).toBeGreaterThan(0)
    const forced = await place.json(['backup', 'source', '--force'])
    expect(forced.summary.counts).toMatchObject({ bytesNew: 0, bytesRead: forced.summary.counts!['bytes'] })
  })

  it('lists snapshots with local time and zone, by tag and by host', async () => {
    const all = await place.json(['snapshots'])
    expect(only(all.events, 'snapshot')).toHaveLength(4)
    const daily = await place.json(['snapshots', '--tag', 'daily', '--tag', 'second'])
    expect(only(daily.events, 'snapshot')).toMatchObject([{ opened: true, tags: ['daily', 'second'], paths: [{ path: source }] }])
    expect((await place.json(['snapshots', '--host', 'elsewhere'])).summary.counts).toMatchObject({ snapshots: 0 })
    const text = await place.run(['snapshots'])
    expect(text.text).toMatch(/^[0-9a-f]{8} {2}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+00:00 /m)
  })

  it('lists what a snapshot holds, names escaped for people and exact for programs', async () => {
    const text = await place.run(['ls', 'latest', '--long'])
    expect(text.text).toContain('evil\\u001b[2Jname\\n.txt')
    expect(text.text).toContain('caf\\xe9.txt')
    expect(text.text).toContain('link -> deep/er/one.txt')
    expect(text.text).not.toContain('\u001b')
    const { events } = await place.json(['ls', 'latest', source])
    const latin = only(events, 'entry').find(({ pathBase64 }) => pathBase64 !== undefined)
    expect(Buffer.from(latin!.pathBase64!, 'base64')).toEqual(Buffer.concat([Buffer.from(`${source}/`), LATIN]))
    expect(only(events, 'entry').map(({ path }) => path)).toContain(`${source}/${CONTROL}`)
    const flat = await place.json(['ls', 'latest', source, '--flat'])
    expect(only(flat.events, 'entry').some(({ path }) => path.endsWith('one.txt'))).toBe(false)
  })

  it('is restored identically, by an unambiguous prefix or latest', async () => {
    const { events } = await place.json(['snapshots', '--tag', 'daily'])
    const id = only(events, 'snapshot')[0]!.id
    const target = place.path('restored')
    const { code, summary } = await place.json(['restore', id.slice(0, 12), '--target', target])
    expect(code).toBe(0)
    expect(summary).toMatchObject({ result: 'done', snapshotId: id, target: { path: target } })
    expect(await compareTrees(source, join(target, source))).toEqual([])
  })

  it('restores one file over what is there only as the rule says', async () => {
    const target = place.path('ruled')
    const file = join(target, source, 'two.bin')
    const restore = (...rule: string[]) => place.json(['restore', 'latest', '--target', target, '--path', join(source, 'two.bin'), ...rule])
    expect((await restore()).summary.counts).toMatchObject({ files: 1 })
    expect(lstatSync(join(target, source)).isDirectory()).toBe(true)
    writeFileSync(file, 'mine')
    const dry = await restore('--overwrite', 'changed', '--dry-run')
    expect(dry.summary).toMatchObject({ dryRun: true })
    expect(readFileSync(file, 'utf8')).toBe('mine')
    expect((await restore('--overwrite', 'never')).summary).toMatchObject({ exitCode: 0, counts: { keptOther: 1, problems: 0 } })
    expect(readFileSync(file, 'utf8')).toBe('mine')
    const beside = await restore()
    expect(beside.summary.counts).toMatchObject({ beside: 1 })
    expect(only(beside.events, 'notice')[0]!.message).toMatch(
      /something else is there; the restored one is beside it as .*\.restored-[0-9a-f]{8}$/,
    )
    expect(readFileSync(file, 'utf8')).toBe('mine')
    expect((await restore('--overwrite', 'changed')).code).toBe(0)
    expect(readFileSync(file)).toEqual(readFileSync(join(source, 'two.bin')))
  })

  it('names what was asked for and is not there, restores the rest and ends with 3', async () => {
    const args = ['restore', 'latest', '--target', place.path('partly'), '--path', join(source, 'two.bin'), '--path', '/not/there']
    const { summary, events } = await place.json(args)
    expect(summary).toMatchObject({ result: 'incomplete', exitCode: 3, counts: { files: 1, problems: 1 } })
    expect(only(events, 'problem')).toMatchObject([{ path: '/not/there', code: 'not-in-snapshot' }])
    expect((await place.run(args)).stderr).toContain('problem: /not/there: is not in this snapshot')
  })

  it('gives one file to standard output, also one whose name is not UTF-8', async () => {
    const ran = await place.run(['dump', 'latest', join(source, 'two.bin')])
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect(ran.stdout).toEqual(readFileSync(join(source, 'two.bin')))
    // Node encodes arguments as UTF-8, so bytes that are not are given by a shell.
    const shell = `exec "$0" dump latest "$1/$(printf 'caf\\351.txt')"`
    const latin = await place.shell(shell, [source])
    expect(latin).toMatchObject({ code: 0, text: 'latin' })
    const out = place.path('dumped')
    const { summary } = await place.json(['dump', 'latest', join(source, 'two.bin'), '--output', out])
    expect(summary).toMatchObject({ exitCode: 0, counts: { bytes: 300_000 } })
    expect(readFileSync(out)).toEqual(readFileSync(join(source, 'two.bin')))
    expect((await place.json(['dump', 'latest', join(source, 'two.bin'), '--output', out])).summary).toMatchObject({
      exitCode: 1,
      code: 'local-disk',
    })
  })

  it('backs up standard input as a file, and leaves out what is excluded', async () => {
    const ran = await place.run(['backup', '--stdin', 'shop.sql', '--label', 'shop'], { input: 'create table shop;\n'.repeat(20_000) })
    expect(ran.code).toBe(0)
    const dumped = await place.run(['dump', 'latest', '/shop.sql'])
    expect(dumped.text).toBe('create table shop;\n'.repeat(20_000))
    writeFileSync(place.path('patterns'), '# what can be made again\n\n*.bin\n')
    const args = [
      'backup',
      'source',
      '--label',
      'less',
      '--exclude',
      'deep/',
      '--exclude-file',
      'patterns',
      '--exclude-larger-than',
      '1M',
      '--one-file-system',
      '--exclude-caches',
      '--compression',
      '1',
      '--workers',
      '1',
      '--state',
      place.path('state'),
    ]
    expect((await place.json(args)).summary).toMatchObject({ exitCode: 0, counts: { files: 2 } })
    expect(existsSync(place.path('state'))).toBe(true)
  })

  it('is checked, with all data or a share of it', async () => {
    expect((await place.json(['check'])).summary).toMatchObject({ result: 'done', exitCode: 0, counts: { snapshots: 6, bytesRead: 0 } })
    const { counts } = (await place.json(['check', '--read-data'])).summary
    expect(counts!['bytesRead']).toBeGreaterThan(0)
    expect((await place.json(['check', '--read-data=1/2'])).summary.exitCode).toBe(0)
    expect((await place.json(['doctor'])).summary).toMatchObject({ result: 'done', exitCode: 0 })
  })

  it('opens with the recovery code, and gets and loses keys but never its last one', async () => {
    const recovery = { HOLDFAST_PASSWORD: undefined, HOLDFAST_RECOVERY_CODE: firstCode.toUpperCase() }
    expect((await place.json(['snapshots'], { env: recovery })).code).toBe(0)
    const added = await place.json(['key', 'add', '--label', 'second'], { env: { HOLDFAST_NEW_PASSWORD: 'battery staple' } })
    expect(added.summary).toMatchObject({ exitCode: 0, place: 'in the repository' })
    const keys = only((await place.json(['key', 'list'], { env: { HOLDFAST_PASSWORD: undefined } })).events, 'key')
    expect(keys).toHaveLength(3)
    const changed = await place.json(['key', 'passwd'], { env: { HOLDFAST_PASSWORD: 'battery staple', HOLDFAST_NEW_PASSWORD: 'third' } })
    expect(changed.code).toBe(0)
    expect((await place.json(['snapshots'], { env: { HOLDFAST_PASSWORD: 'battery staple' } })).summary.exitCode).toBe(12)
    const left = only((await place.json(['key', 'list'])).events, 'key').map(({ name }) => name)
    expect(left).not.toContain(added.summary.keyName)
    // The recovery code goes only on the word of another key that opens.
    const recoveryKey = keys.find(({ kind }) => kind === 'recovery-code')!.name
    expect((await place.json(['key', 'remove', recoveryKey], { env: recovery })).summary).toMatchObject({ exitCode: 12 })
    expect((await place.json(['key', 'remove', recoveryKey.slice(0, 10)])).code).toBe(0)
    expect((await place.json(['key', 'remove', changed.summary.keyName!])).code).toBe(0)
    const last = only((await place.json(['key', 'list'])).events, 'key')
    expect(last).toHaveLength(1)
    expect((await place.json(['key', 'remove', last[0]!.name])).summary).toMatchObject({ exitCode: 15, code: 'policy' })
    const code = only((await place.json(['key', 'add', '--recovery-code'])).events, 'recovery-code')[0]!.code
    expect((await place.json(['snapshots'], { env: { HOLDFAST_PASSWORD: undefined, HOLDFAST_RECOVERY_CODE: code } })).code).toBe(0)
  })

  it('takes the passphrase from a file or a command', async () => {
    writeFileSync(place.path('passphrase'), 'correct horse\n')
    const none = { HOLDFAST_PASSWORD: undefined }
    expect((await place.json(['snapshots'], { env: { ...none, HOLDFAST_PASSWORD_FILE: place.path('passphrase') } })).code).toBe(0)
    expect((await place.json(['snapshots'], { env: { ...none, HOLDFAST_PASSWORD_COMMAND: 'printf "correct horse"' } })).code).toBe(0)
  })
})

describe('help', () => {
  it('teaches: examples, variables and exit codes, on every command', async () => {
    const ran = await place.run(['--help'])
    expect(ran.code).toBe(0)
    for (const word of ['Examples:', 'HOLDFAST_PASSWORD_COMMAND', 'Exit codes', '130', 'backup', 'enroll']) expect(ran.text).toContain(word)
    expect((await place.run(['--version'])).text).toBe('holdfast 0.1.0\n')
    const { events, summary } = await place.json(['restore', '--help'])
    expect(only(events, 'help')[0]!.text).toContain('--overwrite')
    expect(summary).toMatchObject({ result: 'done', exitCode: 0 })
    expect((await place.run(['help', 'backup'])).text).toContain('--exclude-caches')
  })

  it('is there for every verb', async () => {
    const verbs = [
      'init',
      'backup',
      'snapshots',
      'ls',
      'restore',
      'dump',
      'check',
      'key',
      'domain',
      'request',
      'grant',
      'records',
      'doctor',
      'enroll',
      'run',
      'status',
    ]
    const helps = []
    for (const verb of verbs) helps.push(await place.run([verb, '--help']))
    expect(helps.map(({ code, stderr }) => ({ code, stderr }))).toEqual(verbs.map(() => ({ code: 0, stderr: '' })))
    for (const { text } of helps) expect(text).toContain('Global Options:')
  })
})

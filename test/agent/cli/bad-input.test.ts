// What bad input gets: one clear line, the right code, nothing lost, nothing half-written; and with --json one summary last in every case.
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePorts } from '../../_support/ports.ts'
import { startFakeS3 } from '../../_support/fake-s3.ts'
import { only, Workplace } from './_support/cli.ts'

let place: Workplace
let source: string
let snapshotId: string
const isRoot = process.getuid?.() === 0

beforeAll(async () => {
  place = new Workplace()
  source = place.path('source')
  mkdirSync(source)
  // What does not compress, so that a changed byte of a pack is one of data and not of padding.
  writeFileSync(join(source, 'a.txt'), randomBytes(300_000))
  writeFileSync(join(source, 'b.txt'), randomBytes(300_000))
  await place.run(['init'])
  writeFileSync(join(source, 'c.txt'), 'small enough to stand in the tree')
  snapshotId = (await place.json(['backup', 'source'])).summary.snapshotId!
})
afterAll(() => place.close())

/** Ends with the code, in both forms alike, with one line of text that holds what helps. */
async function refuses(
  args: readonly string[],
  exitCode: number,
  code: string,
  words: RegExp,
  env: Record<string, string | undefined> = {},
) {
  const { summary, events } = await place.json(args, { env })
  expect({ args, exitCode: summary.exitCode, code: summary.code }).toEqual({ args, exitCode, code })
  const errors = only(events, 'error')
  expect(errors).toHaveLength(1)
  expect(errors[0]).toMatchObject({ code, exitCode })
  const text = await place.run(args, { env })
  expect(text.code).toBe(exitCode)
  expect(text.text).toBe('')
  const lines = text.stderr.trimEnd().split('\n')
  expect(lines.at(-1)).toMatch(words)
  expect(lines.at(-1)).toMatch(/^holdfast: /)
  expect(text.stderr).not.toMatch(/ {4}at |Error:|undefined/)
}

describe('what is not understood', () => {
  it('is answered with usage, and with what was probably meant', async () => {
    await refuses(['bakup', 'source'], 2, 'usage', /unknown command 'bakup' \(Did you mean backup\?\)/)
    await refuses(['backup', 'source', '--forse'], 2, 'usage', /unknown option '--forse' \(Did you mean --force\?\).*backup --help/)
    await refuses([], 2, 'usage', /say what to do/)
    await refuses(['key'], 2, 'usage', /'key' needs a word more/)
    await refuses(['key', 'ad'], 2, 'usage', /unknown command 'ad'/)
    await refuses(['backup'], 2, 'usage', /name what to back up/)
    await refuses(['restore', 'latest'], 2, 'usage', /--target/)
    await refuses(['restore', 'latest', '--target', 'x', '--overwrite', 'maybe'], 2, 'usage', /beside, changed, always, never/)
    await refuses(['snapshots', 'what', 'for'], 2, 'usage', /too many arguments/)
    await refuses(['backup', 'source', '--exclude-larger-than', 'huge'], 2, 'usage', /size such as 64K/)
    await refuses(['check', '--read-data=5/2'], 2, 'usage', /n\/t/)
    await refuses(['backup', '--stdin', 'a/b'], 2, 'usage', /name of a file/)
    await refuses(['init', '--min-size', '4M', '--max-size', '2M', '--repo', place.path('new')], 2, 'usage', /sizes of chunks must rise/)
  })

  it('names every unknown variable at once, with what was probably meant', async () => {
    const words = /no variable HOLDFAST_PASWORD \(did you mean HOLDFAST_PASSWORD\?\); there is no variable HOLDFAST_QUICKLY\. /
    await refuses(['snapshots'], 2, 'bad-config', words, { HOLDFAST_PASWORD: 'x', HOLDFAST_QUICKLY: '1' })
    // Those of the other program may stand in the same environment.
    expect((await place.json(['snapshots'], { env: { HOLDFAST_SERVER_DATA: '/var/lib/holdfast-server' } })).code).toBe(0)
    await refuses(['snapshots'], 2, 'usage', /HOLDFAST_PASSWORD and HOLDFAST_PASSWORD_FILE are both set/, {
      HOLDFAST_PASSWORD_FILE: '/dev/null',
    })
    await refuses(['snapshots'], 2, 'bad-config', /HOLDFAST_S3_STYLE/, {
      HOLDFAST_S3_STYLE: 'pathe',
      HOLDFAST_REPO: 's3:http://127.0.0.1:1/bucket',
    })
  })

  it('asks for what is missing by name', async () => {
    await refuses(['snapshots'], 2, 'usage', /--repo or HOLDFAST_REPO/, { HOLDFAST_REPO: undefined })
    await refuses(['snapshots'], 2, 'usage', /no terminal to ask on/, { HOLDFAST_PASSWORD: undefined })
    await refuses(['snapshots', '--repo', 'https://host/bucket'], 2, 'usage', /put 's3:' before it/)
    await refuses(['snapshots', '--repo', 's3:http://example.org/bucket'], 2, 'usage', /plain http/)
    await refuses(['records', '/x'], 2, 'usage', /HOLDFAST_SERVER/)
    await refuses(['records', '/x'], 2, 'usage', /HOLDFAST_TOKEN/, { HOLDFAST_SERVER: 'http://127.0.0.1:1' })
    await refuses(['grant', 'something'], 2, 'usage', /rst_/)
    await refuses(['enroll', 'hf1-x', '--server', 'http://127.0.0.1:1'], 2, 'bad-config', /agent\.json cannot be read/)
    for (const domain of ['abcd-efgh', 'abcd-'.repeat(8), `${'abcd-'.repeat(7)}abc1`])
      await refuses(
        ['enroll', 'hf1-x', '--domain', domain, '--server', 'http://127.0.0.1:1'],
        2,
        'usage',
        /is no fingerprint: it has eight groups/,
      )
    await refuses(['status'], 1, 'not-found', /not enrolled/)
  })
})

describe('what is not there or does not fit', () => {
  it('is a wrong passphrase or recovery code: 12', async () => {
    await refuses(['snapshots'], 12, 'wrong-passphrase', /Wrong passphrase: .* or give the recovery code instead/, {
      HOLDFAST_PASSWORD: 'wrong',
    })
    const typo = { HOLDFAST_PASSWORD: undefined, HOLDFAST_RECOVERY_CODE: '0000-0000-0000-0000-0000-0000-0000-0000-0001' }
    await refuses(['snapshots'], 12, 'wrong-passphrase', /recovery code was not typed as it was printed/, typo)
  })

  it('is no repository, or one of a newer format: 10', async () => {
    mkdirSync(place.path('empty'), { recursive: true })
    await refuses(['snapshots', '--repo', place.path('empty')], 10, 'no-repository', /no repository.*holdfast init/)
    await refuses(['backup', 'source', '--repo', place.path('nowhere')], 10, 'no-repository', /nowhere/)
    const file = join(place.repo, 'repository')
    const before = readFileSync(file)
    const newer = Buffer.from(before)
    newer.writeUInt8(2, 8)
    replace(file, newer)
    await refuses(['snapshots'], 10, 'newer-format', /newer Holdfast/)
    replace(file, before)
  })

  it('is what remains of a repository without its description: init leaves it alone', async () => {
    const file = join(place.repo, 'repository')
    const before = readFileSync(file)
    const keys = readdirSync(join(place.repo, 'keys'))
    rmSync(file)
    await refuses(['init'], 1, 'already-exists', /remains of another repository.*nothing was changed/)
    expect(existsSync(file)).toBe(false)
    expect(readdirSync(join(place.repo, 'keys'))).toEqual(keys)
    replace(file, before)
  })

  it('is a store that cannot be reached: 14, or that refuses: 14', async () => {
    const [port] = await freePorts(1)
    const env = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' }
    const s3 = await startFakeS3({ now: () => Date.now() })
    try {
      s3.setFaults(() => ({ kind: 'answer', status: 403, code: 'AccessDenied' }))
      const { summary } = await place.json(['snapshots'], { env: { ...env, HOLDFAST_REPO: `s3:${s3.endpoint}/${s3.bucket}` } })
      expect(summary).toMatchObject({ exitCode: 14, code: 'store-refused' })
    } finally {
      await s3.stop()
    }
    const { summary } = await place.json(['snapshots'], { env: { ...env, HOLDFAST_REPO: `s3:http://127.0.0.1:${port}/bucket` } })
    expect(summary).toMatchObject({ exitCode: 14, code: 'store-unreachable' })
    await refuses(
      ['request', 'latest', '--agent', `ag_${'0'.repeat(32)}`, '--to', 'desk', '--instruction', 'x'],
      2,
      'usage',
      /--instruction is ins_/,
      {
        HOLDFAST_SERVER: `http://127.0.0.1:${port}`,
        HOLDFAST_TOKEN: 't',
      },
    )
  })

  it('is a snapshot that is not, or could be several', async () => {
    await refuses(['ls', 'ffffffffffff'], 1, 'not-found', /no snapshot ffffffffffff/)
    await refuses(['ls', 'not-hex'], 2, 'usage', /'not-hex' is no snapshot/)
    await refuses(['ls', 'latest', '/not/there'], 1, 'not-found', /nothing at this path/)
    await refuses(['dump', 'latest', '/not/there', '-o', place.path('never')], 1, 'not-found', /has no '\/not\/there'/)
    await refuses(['dump', 'latest', source, '-o', place.path('never')], 2, 'usage', /is a directory, not a file/)
    expect(existsSync(place.path('never'))).toBe(false)
    await refuses(
      ['restore', 'latest', '--target', place.path('nothing'), '--path', '/not/there'],
      1,
      'not-found',
      /nothing that was named/,
    )
  })
})

describe('a source', () => {
  it('that is missing makes no snapshot', async () => {
    await refuses(['backup', 'not-here'], 1, 'source-missing', /not-here/)
  })

  it('that is suddenly empty makes no snapshot', async () => {
    mkdirSync(place.path('volume'))
    writeFileSync(place.path('volume', 'file'), 'x')
    expect((await place.run(['backup', 'volume'])).code).toBe(0)
    rmSync(place.path('volume', 'file'))
    const before = readdirSync(join(place.repo, 'snapshots')).length
    await refuses(['backup', 'volume'], 1, 'source-empty', /is it mounted/)
    expect(readdirSync(join(place.repo, 'snapshots'))).toHaveLength(before)
  })

  it.skipIf(isRoot)('with a file that cannot be read is backed up without it: 3', async () => {
    mkdirSync(place.path('mixed'))
    writeFileSync(place.path('mixed', 'open'), 'x')
    writeFileSync(place.path('mixed', 'closed\u001b[0m'), 'y')
    chmodSync(place.path('mixed', 'closed\u001b[0m'), 0)
    const { summary, events } = await place.json(['backup', 'mixed'])
    expect(summary).toMatchObject({ result: 'incomplete', exitCode: 3, counts: { problems: 1 } })
    expect(only(events, 'problem')).toMatchObject([{ code: 'EACCES' }])
    const text = await place.run(['backup', 'mixed'])
    expect(text.stderr).toContain('closed\\u001b[0m: may not be read by this user')
    expect(text.stderr).not.toContain('\u001b')
  })

  it('that holds a socket names it and goes on', async () => {
    mkdirSync(place.path('pipes'))
    writeFileSync(place.path('pipes', 'file'), 'x')
    const server = (await import('node:net')).createServer().listen(place.path('pipes', 'socket'))
    await new Promise((resolve) => server.once('listening', resolve))
    const { summary } = await place.json(['backup', 'pipes'])
    server.close()
    expect([0, 3]).toContain(summary.exitCode)
    expect(summary.snapshotId).toMatch(/^[0-9a-f]{32}$/)
  })
})

describe('damage', () => {
  it('is found, named and told with 4, and a restore brings back what can be brought back', async () => {
    const pack = largestPack(place.repo)
    const before = readFileSync(pack)
    const changed = Buffer.from(before)
    changed[2000]! ^= 1
    replace(pack, changed)
    const check = await place.json(['check', '--read-data'])
    expect(check.summary).toMatchObject({ result: 'damaged', exitCode: 4 })
    expect(only(check.events, 'problem').length).toBeGreaterThan(0)
    const restored = await place.json(['restore', snapshotId, '--target', place.path('rescued')])
    expect(restored.summary).toMatchObject({ result: 'damaged', exitCode: 4, counts: { files: 1, failed: 2 } })
    expect(only(restored.events, 'problem').map(({ code }) => code)).toEqual(['damaged', 'damaged'])
    expect(readFileSync(join(place.path('rescued'), source, 'c.txt'), 'utf8')).toBe('small enough to stand in the tree')
    replace(pack, before)
    expect((await place.json(['check', '--read-data'])).code).toBe(0)
    rmSync(pack)
    const lost = await place.json(['check'])
    expect(lost.summary).toMatchObject({ result: 'damaged', exitCode: 4 })
    await refuses(['dump', snapshotId, join(source, 'a.txt'), '-o', place.path('lost')], 4, 'damaged', /is lost/)
    writeFileSync(pack, before)
  })

  it('is not what a pack has that the store holds and does not give: all else is restored, it ends with 14, and the next restore goes on', async () => {
    const pictures = place.path('pictures')
    const known = new Set(packs(place.repo))
    mkdirSync(pictures)
    writeFileSync(join(pictures, 'first'), randomBytes(400_000))
    await place.json(['backup', 'pictures'])
    const [pack] = packs(place.repo).filter((name) => !known.has(name))
    writeFileSync(join(pictures, 'second'), randomBytes(400_000))
    const { snapshotId: both } = (await place.json(['backup', 'pictures'])).summary
    const before = readFileSync(pack!)
    rmSync(pack!)
    mkdirSync(pack!)
    const target = place.path('patient')
    const stopped = await place.json(['restore', both!, '--target', target])
    expect(stopped.summary).toMatchObject({ result: 'failed', exitCode: 14, code: 'unread' })
    expect(only(stopped.events, 'problem')).toMatchObject([{ path: join(pictures, 'first'), code: 'unread' }])
    const [told] = only(stopped.events, 'error')
    expect(told!.fields).toMatchObject({ files: 1, bytes: 400_000, kept: 0, failed: 1, damaged: 0, unread: 1, problems: 1 })
    expect(told!.message).toMatch(/1 path could not be restored.*All else is restored; run the same restore again/)
    expect(readFileSync(join(target, pictures, 'second'))).toEqual(readFileSync(join(pictures, 'second')))
    rmdirSync(pack!)
    writeFileSync(pack!, before)
    const done = await place.json(['restore', both!, '--target', target])
    expect(done.summary).toMatchObject({ result: 'done', exitCode: 0, counts: { files: 1, kept: 1, beside: 0 } })
    expect(readFileSync(join(target, pictures, 'first'))).toEqual(readFileSync(join(pictures, 'first')))
  })

  it('of a snapshot leaves open which is the latest, and every other can still be named', async () => {
    const damagedId = (await place.json(['backup', 'source', '--force'])).summary.snapshotId!
    const names = readdirSync(join(place.repo, 'snapshots'), { recursive: true, encoding: 'utf8' })
    const object = join(
      place.repo,
      'snapshots',
      names.find((name) => name.endsWith(damagedId))!,
    )
    const before = readFileSync(object)
    const changed = Buffer.from(before)
    changed[changed.length - 5]! ^= 1
    replace(object, changed)
    await refuses(
      ['ls', 'latest'],
      4,
      'damaged',
      /which snapshot is the latest cannot be told: 1 of them does not open; name one by its id/,
    )
    await refuses(['restore', 'latest', '--target', place.path('older')], 4, 'damaged', /latest cannot be told/)
    expect(existsSync(place.path('older'))).toBe(false)
    expect((await place.json(['ls', snapshotId])).code).toBe(0)
    replace(object, before)
    expect((await place.json(['ls', 'latest'])).code).toBe(0)
  })

  it('of a key object blocks no other key', async () => {
    writeFileSync(join(place.repo, 'keys', '0'.repeat(32)), 'rubbish')
    expect((await place.json(['snapshots'])).code).toBe(0)
    const { events } = await place.json(['key', 'list'])
    expect(only(events, 'key').map(({ usable }) => usable)).toContain(false)
    expect((await place.json(['key', 'remove', '0'.repeat(32)])).code).toBe(0)
  })
})

describe('a store that keeps what it is told to remove', () => {
  it('never gets a wrap of the root: the keys stand in a directory here', async () => {
    const s3 = await startFakeS3({ versioning: 'Enabled', now: () => Date.now() })
    const env = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b', HOLDFAST_REPO: `s3:${s3.endpoint}/${s3.bucket}/one` }
    try {
      const { summary, events } = await place.json(['init'], { env })
      expect(summary).toMatchObject({ exitCode: 0, details: { keys: 'directory', enrolled: false } })
      expect(only(events, 'notice').some(({ message }) => message.includes('keeps versions'))).toBe(true)
      expect([...s3.objects.keys()].some((key) => key.includes('/keys/'))).toBe(false)
      const directory = summary.place!
      expect(statSync(directory).mode & 0o777).toBe(0o700)
      expect((await place.json(['backup', 'source'], { env })).code).toBe(0)
      expect((await place.json(['snapshots'], { env })).summary).toMatchObject({ exitCode: 0, counts: { snapshots: 1 } })
      const elsewhere = await place.json(['snapshots'], { env: { ...env, HOME: place.path('other-home') } })
      expect(elsewhere.summary).toMatchObject({ exitCode: 1, code: 'not-found' })
    } finally {
      await s3.stop()
    }
  })

  it('that lets its credentials overwrite is refused until a person accepts it', async () => {
    const s3 = await startFakeS3({ now: () => Date.now() })
    const env = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b', HOLDFAST_REPO: `s3:${s3.endpoint}/${s3.bucket}/two` }
    try {
      const refused = await place.json(['init'], { env })
      expect(refused.summary).toMatchObject({ exitCode: 15, code: 'store-unsuitable' })
      expect([...s3.objects.keys()]).toEqual([])
      expect((await place.json(['doctor'], { env })).summary).toMatchObject({ exitCode: 15, code: 'store-unsuitable' })
      const accepted = await place.json(['init', '--accept-overwrite'], { env })
      expect(accepted.summary).toMatchObject({ exitCode: 0, place: 'in the repository' })
    } finally {
      await s3.stop()
    }
  })
})

/** Objects are read-only; tests that damage them put another file in their place. */
function replace(path: string, bytes: Buffer): void {
  writeFileSync(`${path}.new`, bytes)
  renameSync(`${path}.new`, path)
}

function packs(repo: string): string[] {
  const files = readdirSync(join(repo, 'packs'), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return files.map((entry) => join(entry.parentPath, entry.name))
}

function largestPack(repo: string): string {
  return packs(repo).sort((a, b) => statSync(b).size - statSync(a).size)[0]!
}

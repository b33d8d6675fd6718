// The object `repository` is small and stands alone: where it is lost or damaged, all that is stored can still be read, what writes names the way out,
// and a repair by the root makes it as it was.
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decodeDescription, type Description } from '../../../agent/repository/repository.ts'
import { seededRandom } from '../../_support/seeded-random.ts'
import { only, Workplace } from './_support/cli.ts'

let place: Workplace
let before: Description
const noise = seededRandom('lost description')
const object = (): string => place.path('repo', 'repository')
const described = (): Description => decodeDescription(readFileSync(object()))

beforeAll(async () => {
  place = new Workplace()
  mkdirSync(place.path('source'))
  for (let i = 0; i < 3; i++) writeFileSync(place.path('source', `letter-${i}.txt`), noise.bytes(20_000))
  await place.json(['init'])
  await place.json(['backup', 'source'])
  before = described()
  rmSync(object())
})
afterAll(() => place.close())

/** What every command that reads must do: its work, and say what is missing. */
async function readsAll(words: RegExp): Promise<void> {
  const target = mkdtempSync(place.path('restored-'))
  const letter = place.path('source', 'letter-0.txt')
  const reading = [['snapshots'], ['ls', 'latest'], ['restore', 'latest', '--target', target], ['drill', 'latest']]
  for (const command of [...reading, ['dump', 'latest', letter, '--output', `${target}/dumped`]]) {
    const { events, summary } = await place.json(command)
    expect(summary, command.join(' ')).toMatchObject({ result: 'done', exitCode: 0 })
    expect(
      only(events, 'notice')
        .map(({ message }) => message)
        .join(),
    ).toMatch(words)
  }
  expect(readFileSync(`${target}/dumped`)).toEqual(readFileSync(letter))
  expect(readFileSync(target + letter)).toEqual(readFileSync(letter))
}

describe('a repository without its description', () => {
  it('is read as before, and every command that reads says what is missing', async () => {
    await readsAll(/'repository' is missing.*holdfast repair/)
  })

  it('is damage to a check', async () => {
    const { events, summary } = await place.json(['check', '--read-data', '--content'])
    expect(summary).toMatchObject({ result: 'damaged', exitCode: 4, counts: { damaged: 1, lostBlobs: 0 } })
    expect(only(events, 'problem')).toMatchObject([
      { path: 'repository', message: expect.stringMatching(/missing.*holdfast repair/) as unknown },
    ])
  })

  it('is not written to, and whoever would is told of the repair and not of init', async () => {
    for (const command of [['backup', 'source'], ['prune'], ['forget', '--keep-last', '1'], ['key', 'passwd'], ['undelete', '--all']]) {
      const { events, summary } = await place.json(command, { env: { HOLDFAST_NEW_PASSWORD: 'other' } })
      expect(summary, command.join(' ')).toMatchObject({ result: 'damaged', exitCode: 4, code: 'damaged' })
      const said = only(events, 'error').map(({ message }) => message)
      expect(said.join()).toMatch(/'repository' is missing.*holdfast repair/)
      expect(said.join()).not.toMatch(/init/)
    }
    const init = await place.json(['init'])
    expect(init.summary).toMatchObject({ code: 'already-exists', exitCode: 1 })
    expect(only(init.events, 'error')[0]!.message).toMatch(/holdfast repair/)
    const doctor = await place.run(['doctor'])
    expect(doctor.text).toMatch(/'repository' is missing.*holdfast repair/)
    expect(existsSync(object())).toBe(false)
  })

  it('gets it back by a repair, which says first what it would assume; then all is as before', async () => {
    const dry = await place.json(['repair', '-n'])
    expect(dry.summary).toMatchObject({ result: 'done', exitCode: 0, dryRun: true })
    expect(only(dry.events, 'notice')[0]!.message).toMatch(/would be written anew. Assumed are chunks by content/)
    expect(existsSync(object())).toBe(false)
    const { events, summary } = await place.json(['repair'])
    expect(summary).toMatchObject({ result: 'done', exitCode: 0 })
    expect(only(events, 'notice')[0]!.message).toMatch(/is written anew. Assumed are chunks by content/)
    const { createdAt: _, ...rest } = described()
    const { createdAt: __, ...wanted } = before
    expect(rest).toEqual(wanted)
    expect((await place.json(['check', '--content'])).summary).toMatchObject({ result: 'done', exitCode: 0 })
    expect((await place.json(['backup', 'source'])).summary).toMatchObject({ exitCode: 0, counts: { bytesNew: 0 } })
  })

  it('is assumed to have chunks of one size where nearly all that are stored have it', async () => {
    const repo = place.path('fixed')
    await place.json(['init', '--repo', repo, '--chunking', 'fixed', '--mean-size', '256K'])
    mkdirSync(place.path('images'))
    writeFileSync(place.path('images', 'disk'), noise.bytes(12 * 256 * 1024))
    await place.json(['backup', 'images', '--repo', repo])
    const { chunking } = decodeDescription(readFileSync(`${repo}/repository`))
    rmSync(`${repo}/repository`)
    await place.json(['repair', '--repo', repo])
    expect(decodeDescription(readFileSync(`${repo}/repository`)).chunking).toEqual(chunking)
  })

  it('does not follow one object of another domain', async () => {
    const other = place.path('other')
    await place.json(['init', '--repo', other])
    await place.json(['backup', 'source', '--repo', other])
    await place.json(['backup', 'source'])
    const stray = `sessions/${'0'.repeat(32)}`
    const header = readFileSync(`${other}/repository`).subarray(0, 32)
    header.writeUInt8(3, 9)
    writeFileSync(place.path('repo', stray), header)
    const bytes = readFileSync(object())
    rmSync(object())
    expect((await place.json(['snapshots'])).summary).toMatchObject({ exitCode: 0, domainId: before.domainId.toString('hex') })
    writeFileSync(object(), bytes)
    rmSync(place.path('repo', stray))
  })
})

describe('a repository whose description is damaged', () => {
  it('is read all the same; a repair changes no object, and writes it once it is moved away', async () => {
    const bytes = readFileSync(object())
    chmodSync(object(), 0o600)
    writeFileSync(
      object(),
      bytes.map((byte, at) => (at === 60 ? byte ^ 1 : byte)),
    )
    await readsAll(/'repository' .* is damaged.*Move it away/)
    const { summary } = await place.json(['repair'])
    expect(summary).toMatchObject({ result: 'damaged', exitCode: 4 })
    rmSync(object())
    expect((await place.json(['repair'])).summary).toMatchObject({ result: 'done', exitCode: 0 })
    expect((await place.json(['check'])).summary).toMatchObject({ exitCode: 0 })
  })
})

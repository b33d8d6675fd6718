// What the process does when it is interrupted, asked for progress, or left by whoever read it.
import { once } from 'node:events'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventsOf, linesOf, only, Workplace } from './_support/cli.ts'

let place: Workplace

beforeAll(async () => {
  place = new Workplace()
  mkdirSync(place.path('source'))
  for (let i = 0; i < 40; i++) writeFileSync(place.path('source', `file-${i}`), randomBytes(1024 * 1024))
  await place.run(['init'])
})
afterAll(() => place.close())

describe('a run', () => {
  it('that is interrupted ends with 130 and no snapshot, and goes on from there when it is run again', async () => {
    const child = place.start(['backup', 'source', '--workers', '1', '--json'])
    const lines: string[] = []
    for await (const line of linesOf(child.stdout)) {
      lines.push(line)
      // The first word that something was read: in the middle of the run.
      if (line.includes('"phase":"reading"')) child.kill('SIGINT')
    }
    if (child.exitCode === null) await once(child, 'exit')
    expect(child.exitCode).toBe(130)
    const events = eventsOf(lines.join('\n'))
    expect(events.at(-1)).toMatchObject({ event: 'summary', result: 'interrupted', exitCode: 130, code: 'cancelled' })
    expect(only(events, 'summary')).toHaveLength(1)
    expect(snapshotsIn(place.repo)).toBe(0)
    const again = await place.json(['backup', 'source'])
    expect(again.summary).toMatchObject({ exitCode: 0, counts: { files: 40 } })
    const target = place.path('target')
    expect((await place.json(['restore', 'latest', '--target', target])).code).toBe(0)
    for (const name of readdirSync(place.path('source')))
      expect(readFileSync(join(target, place.path('source'), name)).equals(readFileSync(place.path('source', name)))).toBe(true)
  })

  it('is quiet when its reader goes away, and a listing ends well', async () => {
    const ran = await place.shell('"$0" ls latest | head -n 1; "$0" dump latest "$1/file-0" | head -c 10 > /dev/null', [
      place.path('source'),
    ])
    expect(ran.stderr).not.toMatch(/EPIPE|Error|holdfast:/)
    expect(ran.text.split('\n').filter((line) => line !== '')).toHaveLength(1)
  })

  it('tells how far it is when it is asked by SIGUSR1', async () => {
    const child = place.start(['backup', '--stdin', 'slow', '--json'])
    child.stdin.write(randomBytes(100_000))
    child.stderr.resume()
    const statuses: string[] = []
    for await (const line of linesOf(child.stdout)) {
      if (!line.includes('"event":"status"')) continue
      statuses.push(line)
      // Nothing more comes in, so what is said now is said because it was asked for; then the input ends and the run with it.
      if (statuses.length < 6) child.kill('SIGUSR1')
      else child.stdin.end()
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    expect(child.exitCode).toBe(0)
    expect(statuses.length).toBeGreaterThanOrEqual(6)
  })
})

function snapshotsIn(repo: string): number {
  try {
    return readdirSync(join(repo, 'snapshots')).length
  } catch {
    // Not even the folder was made.
    return 0
  }
}

// The small parts of the command line: bytes as text, sizes and times, what was probably meant, settings, lines of progress, text from events.
import * as fc from 'fast-check'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { bytesOfText, pathFields, shownBytes, textOfBytes } from '../../../agent/cli/byte-text.ts'
import { closest } from '../../../agent/cli/closest.ts'
import type { Said, Status } from '../../../agent/cli/events.ts'
import { formatBytes, formatCount, formatDuration, parseSize } from '../../../agent/cli/format.ts'
import { absolutePath } from '../../../agent/cli/paths.ts'
import { liveLine, plainStatus } from '../../../agent/cli/progress-line.ts'
import { renderEvent } from '../../../agent/cli/render.ts'
import { createReporter, type Writer } from '../../../agent/cli/report.ts'
import { styleFor } from '../../../agent/cli/style.ts'
import { VERSION } from '../../../agent/cli/version.ts'
import { readSettings, VARIABLES } from '../../../agent/config.ts'
import { TestClock } from '../../_support/test-clock.ts'

const plain = styleFor({ isTerminal: false }, {})
const style = { stdout: plain, stderr: plain }

describe('names as text', () => {
  it('come back as the same bytes, whatever the bytes', () => {
    const pieces = fc.array(
      fc.oneof(
        fc.uint8Array({ maxLength: 6 }),
        fc.string({ unit: 'binary', maxLength: 4 }).map((s) => new TextEncoder().encode(s)),
      ),
    )
    fc.assert(
      fc.property(pieces, (parts) => {
        const bytes = Buffer.concat(parts)
        expect(bytesOfText(textOfBytes(bytes))).toEqual(bytes)
      }),
    )
  })

  it('are shown without anything that a terminal would obey', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (raw) => {
        const shown = shownBytes(Buffer.from(raw))
        // oxlint-disable-next-line no-control-regex -- finding control characters is the purpose
        expect(shown).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/)
        expect(shown.isWellFormed()).toBe(true)
      }),
    )
    expect(shownBytes(Buffer.from('a\xe9\u001b', 'latin1'))).toBe('a\\xe9\\u001b')
  })

  it('are exact in events only where the text cannot say them', () => {
    expect(pathFields(Buffer.from('/é'))).toEqual({ path: '/é' })
    expect(pathFields(Buffer.from('/\xe9', 'latin1'))).toEqual({ path: '/\ufffd', pathBase64: 'L+k=' })
  })
})

describe('paths', () => {
  it('are made absolute by the text alone', () => {
    const at = (path: string): string => absolutePath(Buffer.from('/home/me'), Buffer.from(path)).toString()
    expect(at('docs/./a//b/')).toBe('/home/me/docs/a/b')
    expect(at('../../..')).toBe('/')
    expect(at('/x/../y')).toBe('/y')
    expect(() => at('')).toThrow(expect.objectContaining({ code: 'usage' }))
  })
})

describe('numbers', () => {
  it('are written as people read them', () => {
    expect([0, 1023, 1024, 4_640_000, 2 ** 40].map(formatBytes)).toEqual(['0 B', '1023 B', '1.000 KiB', '4.425 MiB', '1.000 TiB'])
    expect(formatCount(1_234_567)).toBe('1,234,567')
    expect([0, 3_400, 754_000, 3_723_000].map(formatDuration)).toEqual(['0:00', '0:03', '12:34', '1:02:03'])
  })

  it('of sizes are read with units of 1024, and nothing else is', () => {
    expect(['0', '64K', '1.5g', '10 MiB', '7b'].map((text) => parseSize(text, '--x'))).toEqual([0, 65_536, 1_610_612_736, 10_485_760, 7])
    for (const wrong of ['', '-1', '1e3', '5x', '1 000', 'K', '99999999T'])
      expect(() => parseSize(wrong, '--x')).toThrow(expect.objectContaining({ code: 'usage', message: expect.stringContaining('--x') }))
  })
})

describe('settings', () => {
  it('name everything that is wrong at once, and never a value', () => {
    const read = () => readSettings({ HOLDFAST_TOKNE: 'very secret', HOLDFAST_AGENT_DIR: 'relative' }, '/home/me')
    expect(read).toThrow(expect.objectContaining({ code: 'bad-config' }))
    expect(read).toThrow(/HOLDFAST_TOKNE \(did you mean HOLDFAST_TOKEN\?\); HOLDFAST_AGENT_DIR must be an absolute path/)
    expect(read).not.toThrow(/very secret/)
  })

  it('take an empty variable for none, and follow XDG', () => {
    const settings = readSettings({ HOLDFAST_REPO: '', XDG_STATE_HOME: '/state', XDG_CONFIG_HOME: 'relative' }, '/home/me')
    expect(settings).toMatchObject({ repo: undefined, stateHome: '/state', configHome: '/home/me/.config' })
  })

  it('are all in one table, none of them like another by a slip', () => {
    for (const name of Object.keys(VARIABLES)) expect(readSettings({ [name]: '/x' }, '/h')).toBeDefined()
    expect(closest('HOLDFAST_REPOO', Object.keys(VARIABLES))).toBe('HOLDFAST_REPO')
    expect(closest('snapshto', ['snapshots', 'status'])).toBe('snapshots')
    expect(closest('xyz', ['snapshots'])).toBeUndefined()
  })
})

const status: Status = {
  event: 'status',
  phase: 'reading',
  files: 12_345,
  bytes: 3 * 2 ** 30,
  newBytes: 2 ** 30,
  uploadedBytes: 2 ** 29,
  problems: 2,
  totalFiles: 20_000,
  totalBytes: 6 * 2 ** 30,
  elapsedMs: 12_000,
  bytesPerSecond: 250 * 2 ** 20,
  secondsLeft: 12,
}

describe('a line of progress', () => {
  it('tells rate, files, bytes, what was known, time left and problems', () => {
    const line = liveLine(status, 200, plain)
    for (const part of ['50 %', '12,345 of 20,000 files', '3.000 GiB of 6.000 GiB', '250.0 MiB/s', '67 % known', '0:12 left', '2 problems'])
      expect(line).toContain(part)
    expect(plainStatus(status)).toBe(
      '0:12 reading: 12,345 of 20,000 files, 3.000 GiB of 6.000 GiB, 250.0 MiB/s, 1.000 GiB new (67 % known), 0:12 left, 2 problems',
    )
  })

  it('never is wider than the terminal', () => {
    const idle = { ...status, files: 0, bytes: 0 }
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), fc.constantFrom(status, idle), (columns, shown) => {
        expect(liveLine(shown, columns, plain).length).toBeLessThan(Math.max(2, columns))
      }),
    )
  })
})

describe('the reporter', () => {
  function reporterOn(options: { json?: boolean; quiet?: boolean; isTerminal?: boolean }) {
    const clock = new TestClock()
    const out: string[] = []
    const err: string[] = []
    const writer = (into: string[]): Writer => ({
      write: (text) => void into.push(text),
      isTerminal: options.isTerminal ?? false,
      columns: () => 80,
      isClosed: () => false,
    })
    const report = createReporter({
      json: options.json ?? false,
      quiet: options.quiet ?? false,
      stdout: writer(out),
      stderr: writer(err),
      style,
      clock,
    })
    const progress = (bytes: number): void => report.progress({ phase: 'reading', files: 1, bytes, problems: 0 })
    return { clock, out, err, report, progress }
  }

  it('off a terminal says a line a minute and no more', () => {
    const { clock, err, progress } = reporterOn({})
    for (let second = 0; second < 180; second++) {
      progress(second * 1_000_000)
      clock.advance(1000)
    }
    expect(err).toHaveLength(2)
    expect(err[0]).toMatch(/^1:00 reading: 1 files, .*\n$/)
  })

  it('on a terminal redraws one line at most ten times a second, and takes it away before anything else', () => {
    const { clock, err, report, progress } = reporterOn({ isTerminal: true })
    for (let i = 0; i < 1000; i++) {
      progress(i)
      clock.advance(1)
    }
    expect(err.length).toBeLessThanOrEqual(11)
    expect(err.every((text) => text.startsWith('\r') && !text.includes('\n'))).toBe(true)
    report.say({ event: 'notice', level: 'warning', message: 'look' })
    expect(err.join('')).toContain('\r\u001b[Kwarning: look\n')
    report.close()
    expect(err.at(-1)).toBe('\r\u001b[K')
  })

  it('with --json says a status at most once a second, and with --quiet none', () => {
    const loud = reporterOn({ json: true })
    const quiet = reporterOn({ json: true, quiet: true })
    for (const { progress, clock } of [loud, quiet])
      for (let i = 0; i < 3000; i++) {
        progress(i)
        clock.advance(1)
      }
    expect(loud.out.length).toBeLessThanOrEqual(4)
    expect(loud.out.every((line) => (JSON.parse(line) as { v: number }).v === 1)).toBe(true)
    expect(quiet.out).toEqual([])
  })
})

describe('text from events', () => {
  it('shows names of files, tags, hosts and messages without control characters', () => {
    const evil = 'x\u001b[2J\ny'
    const options = { quiet: false, style }
    const shown = [
      renderEvent({ event: 'problem', path: evil, code: 'EIO', message: evil }, options),
      renderEvent({ event: 'notice', level: 'note', message: evil }, options),
      renderEvent({ event: 'error', code: 'failed', message: evil, exitCode: 1, retryable: false, fields: {} }, options),
      renderEvent(
        { event: 'entry', path: evil, kind: 'symlink', mode: '0777', uid: 0, gid: 0, mtimeNs: '0', target: evil, long: true },
        options,
      ),
      renderEvent(
        {
          event: 'snapshot',
          id: 'a'.repeat(32),
          startedAt: '2026-01-01T00:00:00.000Z',
          endedAt: '2026-01-01T00:00:00.000Z',
          series: 'b'.repeat(64),
          sequence: 1,
          writerId: '0'.repeat(32),
          files: 1,
          directories: 1,
          bytes: 1,
          opened: true,
          host: evil,
          paths: [{ path: evil }],
          tags: [evil],
        },
        options,
      ),
    ]
    for (const rendered of shown) {
      const text = `${rendered?.stdout ?? ''}${rendered?.stderr ?? ''}`
      expect(text).toContain('\\u001b[2J\\ny')
      // oxlint-disable-next-line no-control-regex -- finding control characters is the purpose
      expect(text.replace(/\n$/, '')).not.toMatch(/[\u0000-\u001f]/)
    }
  })

  it('of a record says whence, whither, why, on whose instruction and by whom', () => {
    const rendered = renderEvent(
      {
        event: 'record',
        agentId: `ag_${'1'.repeat(32)}`,
        seq: 7,
        index: 2,
        kind: 'recovery',
        outcome: 'ok',
        at: '2026-01-01T00:00:00.000Z',
        size: 2048,
        bytesNew: 2048,
        token: 'a'.repeat(64),
        header: {
          snapshotId: 'b'.repeat(32),
          from: { region: 'CA-ON', storeId: 'store_1' },
          to: { region: 'CA-QC' },
          purpose: 'restore',
          instructionId: 'ins_1',
          actor: 'user:usr_1',
          requestedBy: 'user:usr_1',
          approvedBy: 'user:usr_2',
          restoreRoot: 'desk',
        },
      },
      { quiet: false, style },
    )
    expect(rendered?.stdout).toContain(
      "\n  from CA-ON (store_1) to CA-QC, restore root 'desk'; restore on instruction ins_1, by user:usr_1, asked by user:usr_1, approved by user:usr_2\n",
    )
  })

  it('says of a grant which keys it really holds, also where it is of a whole snapshot', () => {
    const terms = {
      ...{ restoreId: 'rst_1', agentId: 'ag_1', agentLabel: 'a', snapshotId: 'b'.repeat(32), restoreRoot: 'drill' },
      ...{ conflict: 'beside', purpose: 'restore-test', instructionId: 'ins_1', requestedBy: 'token:tok_1', whole: true },
      ...{ selected: [{ path: '/' }], files: 9, bytes: 9, alsoOpens: [], expiresAt: '2026-01-01T00:00:00.000Z' },
    }
    const text = (segments: number, sessions: number) =>
      renderEvent({ event: 'grant-terms', ...terms, segments, sessions }, { quiet: false, style })?.stderr
    expect(text(5, 0)).toContain('opens     5 segment keys, until')
    expect(text(0, 2)).toContain('opens     2 session keys, until')
  })

  it('shows a drill with what was compared, and one without an end without numbers', () => {
    const drill = {
      ...{ at: '2026-01-01T00:00:00.000Z', repository: '/r', snapshotId: 'b'.repeat(32), series: 'c'.repeat(64) },
      ...{ whole: false, sampleHash: 'd'.repeat(64) },
    }
    const text = (more: Partial<Said<'drill'>>) =>
      renderEvent({ event: 'drill', ...drill, problems: 0, files: 0, bytes: 0, outcome: 'began', ...more }, { quiet: false, style })?.stdout
    expect(
      text({ outcome: 'damaged', files: 1200, bytes: 2048, ofFiles: 9999, bytesCompared: 1024, drillsForAll: 9, problems: 2 }),
    ).toMatch(
      / {2}bbbbbbbb {2}DAMAGED\n {2}1,200 of 9,999 files, 2\.000 KiB; 1\.000 KiB read again and compared; all in about 9 drills; 2 problems\n$/,
    )
    expect(text({ outcome: 'failed', code: 'store-unreachable' })).toMatch(/FAILED \(store-unreachable\)/)
    expect(text({})).toMatch(/began; it was interrupted, or is under way\n$/)
    expect(text({ agentId: 'ag_1', restoreId: 'rst_1' })).toMatch(
      /asked of an agent\n {2}by ag_1 \(rst_1\); how it ended is in the agent's records\n$/,
    )
  })

  it('is coloured on a terminal only, and not where NO_COLOR is set', () => {
    expect(styleFor({ isTerminal: true }, {}).bold('x')).toBe('\u001b[1mx\u001b[22m')
    expect(styleFor({ isTerminal: true }, { NO_COLOR: '1' }).bold('x')).toBe('x')
    expect(styleFor({ isTerminal: true }, { TERM: 'dumb' }).bold('x')).toBe('x')
    expect(styleFor({ isTerminal: false }, {}).bold('x')).toBe('x')
  })

  it('has the version of the package', () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../../agent/package.json'), 'utf8')) as { version: string }
    expect(VERSION).toBe(version)
  })
})

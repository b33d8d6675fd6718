// The agent's launcher carries settings that nothing else would notice missing: what keeps a run within its memory, and what
// leaves SIGUSR1 to us.
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, it } from 'vitest'

const launcher = readFileSync(resolve(import.meta.dirname, '../../agent/bin/holdfast'), 'utf8')

describe('the launcher of holdfast', () => {
  it('bounds arenas and nursery, which a run of 80,000 files needs to stay within 256 MiB', () => {
    for (const setting of ['MALLOC_ARENA_MAX', 'MALLOC_MMAP_THRESHOLD_', '--max-semi-space-size=1', '--heap-growing-percent=20'])
      expect(launcher).toContain(setting)
  })

  it('leaves SIGUSR1 to the listener in main.ts: with its option Node would keep the signal blocked (test/agent/cli/signals.test.ts hears it)', () => {
    expect(launcher.slice(launcher.indexOf('exec '))).not.toContain('--disable-sigusr1')
  })
})

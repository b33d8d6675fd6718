// Sources at and over the limits of the format: what a reader would refuse is never written, one hostile file costs no other.
import { describe, expect, test } from 'vitest'
import { CWD } from '../../../agent/file-system/file-system.ts'
import { LIMITS } from '@holdfast/shared/format/layout.ts'
import { change, makeEngine, writeFile } from '../../_support/engine-fixture.ts'

const b = (text: string): Buffer => Buffer.from(text, 'latin1')

describe('a source at the limits of the format', () => {
  test('with the largest attributes that an entry may have is backed up whole', async () => {
    const engine = await makeEngine()
    writeFile(engine, '/src/file', 'content')
    change(engine, (fs) => {
      for (let i = 0; i < 3; i++) fs.setAttribute(CWD, b('/src/file'), b(`user.${i}${'n'.repeat(240)}`), Buffer.alloc(65_536, i))
    })
    const run = await engine.backup()
    expect(run.outcome).toBe('done')
    expect(engine.newest()).toEqual(engine.source())
  })

  test('with more attributes than an entry may have keeps the file, names what it lost, and reads back', async () => {
    for (const [count, bytes] of [
      [LIMITS.attributes + 1, 1],
      [300, 65_536],
    ] as const) {
      const engine = await makeEngine()
      writeFile(engine, '/src/file', 'content')
      writeFile(engine, '/src/other', 'content')
      change(engine, (fs) => {
        fs.makeDirectory(CWD, b('/src/directory'), 0o755)
        fs.makeNode(CWD, b('/src/fifo'), { kind: 'fifo', mode: 0o600, major: 0, minor: 0 })
        for (const path of ['/src/file', '/src/directory', '/src/fifo'])
          for (let i = 0; i < count; i++) fs.setAttribute(CWD, b(path), b(`user.${i}`), Buffer.alloc(bytes, i))
      })
      engine.pass()
      for (let i = 0; i < 2; i++) {
        const run = await engine.backup()
        expect(run.outcome).toBe('incomplete')
        expect(run.problems.map(({ path, code }) => `${path.toString()} ${code}`).sort()).toEqual([
          '/src/directory attributes-E2BIG',
          '/src/fifo attributes-E2BIG',
          '/src/file attributes-E2BIG',
        ])
        const tree = engine.newest()
        expect([...tree.keys()]).toEqual(['/src', '/src/directory', '/src/fifo', '/src/file', '/src/other'])
        expect(tree.get('/src/file')).toContain('7 bytes')
      }
    }
  })

  test('with directories deeper than a reader goes names the one where it stops', async () => {
    const engine = await makeEngine()
    change(engine, (fs) => {
      let at = fs.open(CWD, b('/src'), 'directory')
      for (let depth = 1; depth < LIMITS.depth + 5; depth++) {
        fs.makeDirectory(at, b('d'), 0o755)
        const next = fs.open(at, b('d'), 'directory')
        fs.close(at)
        at = next
        if (depth !== LIMITS.depth - 2) continue
        const file = fs.open(at, b('bottom'), 'create')
        fs.write(file, Buffer.alloc(1000, 1), 0)
        fs.close(file)
      }
      fs.close(at)
    })
    writeFile(engine, '/src/other', 'content')
    const run = await engine.backup()
    expect(run.outcome).toBe('incomplete')
    expect(run.problems.map(({ code }) => code)).toEqual(['too-deep'])
    expect(engine.newest().has('/src/other')).toBe(true)
  })
})

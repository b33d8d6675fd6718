// What `npm pack` makes is a package a stranger can use: plain JavaScript with types, no dependencies, working from node_modules.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readVectors } from './vectors.ts'

const root = join(import.meta.dirname, '../../..')
let folder = ''
let installed = ''

beforeAll(() => {
  // A copy, so that the checkout's package.json is never touched while other tests read it.
  folder = mkdtempSync(join(tmpdir(), 'chunking-stream-'))
  const copy = join(folder, 'shared/chunking-stream')
  cpSync(join(root, 'shared/chunking-stream'), copy, { recursive: true })
  for (const name of ['node_modules', 'bin']) symlinkSync(join(root, name), join(folder, name))
  const before = readFileSync(join(copy, 'package.json'), 'utf8')
  execFileSync('npm', ['pack', '--silent', '--ignore-scripts=false', '--offline', '--pack-destination', folder], {
    cwd: copy,
    stdio: 'pipe',
  })
  expect(readFileSync(join(copy, 'package.json'), 'utf8'), 'the workspace form is put back').toBe(before)
  expect(readdirSync(copy)).not.toContain('dist')

  installed = join(folder, 'user/node_modules/chunking-stream')
  mkdirSync(installed, { recursive: true })
  execFileSync('tar', ['-xzf', join(folder, 'chunking-stream-1.0.0.tgz'), '--strip-components=1', '-C', installed])
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('the packed package', () => {
  it('holds JavaScript, types, the kernel and its source, and needs nothing else', () => {
    expect(readdirSync(installed).sort()).toEqual(['LICENSE', 'README.md', 'assembly', 'dist', 'package.json'])
    const dist = readdirSync(join(installed, 'dist'))
    expect(dist).toEqual(expect.arrayContaining(['gear.wasm', 'index.d.ts', 'index.js']))
    expect(dist.filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))).toEqual([])
    const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as Record<string, unknown>
    expect(Object.keys(manifest).filter((name) => /dependencies|scripts|publishConfig/i.test(name))).toEqual([])
    expect(manifest['exports']).toEqual({ '.': { types: './dist/index.d.ts', default: './dist/index.js' } })
    expect(manifest['license']).toBe('Apache-2.0')
  })

  it('cuts as the golden vectors say when a plain program imports it', () => {
    const { key, cases } = readVectors()
    const sample = cases.find(({ sizes, cuts }) => sizes.max === 1024 && cuts.length > 50)
    const program = `
      import { createHash } from 'node:crypto'
      import { chunks } from 'chunking-stream'
      const { key, sample } = ${JSON.stringify({ key, sample })}
      const [{ seed, length }] = sample.input
      const input = createHash('shake256', { outputLength: length }).update(seed).digest()
      const cuts = []
      for await (const chunk of chunks([input], { key: Buffer.from(key, 'hex'), ...sample.sizes })) cuts.push((cuts.at(-1) ?? 0) + chunk.length)
      console.log(JSON.stringify(cuts))`
    writeFileSync(join(folder, 'user/program.mjs'), program)
    const printed = execFileSync(process.execPath, [join(folder, 'user/program.mjs')], { encoding: 'utf8' })
    expect(JSON.parse(printed)).toEqual(sample?.cuts)
  })

  it('gives its types to a strict TypeScript program', () => {
    const program = `
      import { chunkingStream, createChunker } from 'chunking-stream'
      import type { Chunker } from 'chunking-stream'
      const chunker: Chunker = createChunker({ key: new Uint8Array(32), bufferBytes: 4194304 })
      export const cut: number = chunker.nextCut(0, 0, true)
      export const stream: TransformStream<Uint8Array, Uint8Array> = chunkingStream({ mode: 'fixed' })
      // @ts-expect-error: sizes are numbers
      createChunker({ key: new Uint8Array(32), min: '1' })`
    writeFileSync(join(folder, 'user/program.ts'), program)
    const config = {
      module: 'nodenext',
      strict: true,
      noEmit: true,
      skipLibCheck: false,
      lib: ['es2023'],
      types: ['node'],
      typeRoots: [join(root, 'node_modules/@types')],
    }
    writeFileSync(join(folder, 'user/tsconfig.json'), JSON.stringify({ compilerOptions: config, files: ['program.ts'] }))
    writeFileSync(join(folder, 'user/package.json'), '{ "type": "module" }')
    execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(folder, 'user')], { stdio: 'pipe' })
  })
})

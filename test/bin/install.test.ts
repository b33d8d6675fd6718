// bin/install on a project of two local packages, so that no registry is needed: it installs what the lock names and nothing else.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { runProgram } from '../_support/processes.ts'
import type { Ended } from '../_support/processes.ts'
import { root } from '../_support/source-files.ts'

let folder = ''
const install = (): Promise<Ended> => runProgram('sh', [join(folder, 'bin/install')], { cwd: '/' })
const write = (path: string, value: unknown): void => writeFileSync(join(folder, path), `${JSON.stringify(value, null, 2)}\n`)
const lock = (): string => readFileSync(join(folder, 'package-lock.json'), 'utf8')
const project = { name: 'project', version: '1.0.0', private: true, workspaces: ['part'] }

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-install-'))
  for (const name of ['bin', 'part', 'other']) mkdirSync(join(folder, name))
  cpSync(join(root, 'bin/install'), join(folder, 'bin/install'))
  write('package.json', project)
  const script = `node -e "require('fs').writeFileSync('ran', '')"`
  write('part/package.json', { name: 'part', version: '1.0.0', scripts: { preinstall: script, install: script, postinstall: script } })
  write('other/package.json', { name: 'other', version: '1.0.0' })
  await runProgram('npm', ['install', '--package-lock-only', '--offline', '--ignore-scripts'], { cwd: folder })
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

test('it says what it does, installs, runs no script of a package and leaves the lock alone; a second run does nothing', async () => {
  const before = lock()
  const first = await install()
  expect(first).toMatchObject({ code: 0, stderr: '' })
  expect(first.stdout).toMatch(/^Installing the packages that package-lock\.json names into node_modules/)
  expect(existsSync(join(folder, 'node_modules/part/package.json'))).toBe(true)
  expect(existsSync(join(folder, 'part/ran'))).toBe(false)
  expect(lock()).toBe(before)
  expect(await install()).toMatchObject({ code: 0, stdout: '', stderr: '' })
})

test('it installs again when the lock is another, however old the files are', async () => {
  await install()
  write('package-lock.json', { ...(JSON.parse(lock()) as object), name: 'renamed' })
  write('package.json', { ...project, name: 'renamed' })
  const second = await install()
  expect(second.stdout).toContain('Installing')
  expect(second.code).toBe(0)
})

test('a package.json that wants what the lock does not name is refused, and the lock is put back', async () => {
  const before = lock()
  write('package.json', { ...project, dependencies: { other: 'file:other' } })
  const { code, stderr } = await install()
  expect(code).toBe(1)
  expect(stderr).toContain('npm install wanted other packages than package-lock.json names')
  expect(stderr).toContain('"node_modules/other": {')
  expect(lock()).toBe(before)
  expect((await install()).code, 'again, not only once').toBe(1)
})

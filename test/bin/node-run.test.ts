// The launcher is the pinned Node in the same process: arguments, input, signals and exit codes pass through, from any folder.
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runProgram, startProgram } from '../_support/processes.ts'
import { root } from '../_support/source-files.ts'

const launcher = join(root, 'bin/node-run')
let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-launcher-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('it runs the pinned Node, whatever Node stands first on PATH, with arguments, input and exit code as they are', async () => {
  const program = `process.stdin.on('data', (text) => process.stdout.write([process.versions.node.split('.')[0], process.argv[1], text].join('|')))
    .on('end', () => { process.exitCode = 14 })`
  const { code, stdout } = await runProgram('sh', [launcher, '-e', program, '--', `a 'b" c`], { input: 'typed', cwd: folder })
  expect(stdout).toBe(`24|a 'b" c|typed`)
  expect(code).toBe(14)
})

test('it is the same process, so a signal reaches the program', async () => {
  const program = `process.on('SIGINT', () => { console.log('asked to stop'); process.exit(130) }); setInterval(() => {}, 1e6); console.log('pid', process.pid)`
  const running = startProgram('sh', [launcher, '-e', program])
  const [, pid] = await running.printed(/pid (\d+)/)
  expect(Number(pid)).toBe(running.pid)
  const { code, stdout } = await running.stop('SIGINT')
  expect(stdout).toContain('asked to stop')
  expect(code).toBe(130)
})

test('it works through a link, as npx calls it', async () => {
  symlinkSync(launcher, join(folder, 'linked'))
  const { stdout } = await runProgram(join(folder, 'linked'), ['-p', '1 + 1'], { cwd: '/' })
  expect(stdout).toBe('2\n')
})

test('compiled code is cached in a folder for this user alone, and nowhere when there is no home', async () => {
  const environment = { PATH: process.env['PATH'] ?? '' }
  const print = ['-p', 'process.env.NODE_COMPILE_CACHE']
  const kept = await runProgram('sh', [launcher, ...print], { env: { ...environment, HOME: folder } })
  expect(kept.stdout).toBe(`${folder}/.cache/holdfast/compile\n`)
  expect(statSync(join(folder, '.cache/holdfast/compile')).mode & 0o777).toBe(0o700)
  const before = readdirSync('/')
  const homeless = await runProgram('sh', [launcher, ...print], { env: environment })
  expect(homeless.stdout).toBe('undefined\n')
  expect(readdirSync('/')).toEqual(before)
})

test('a crash leaves no core file, which could hold keys', async () => {
  const { stdout } = await runProgram('sh', [launcher, '-p', `require('fs').readFileSync('/proc/self/limits', 'utf8')`])
  expect(stdout).toMatch(/Max core file size\s+0\s+0/)
})

test('where nothing is installed it says what to run', async () => {
  mkdirSync(join(folder, 'bare/bin'), { recursive: true })
  cpSync(launcher, join(folder, 'bare/bin/node-run'))
  const { code, stderr } = await runProgram('sh', [join(folder, 'bare/bin/node-run'), 'x.ts'])
  expect(code).toBe(1)
  expect(stderr).toBe(`holdfast: not installed yet; run 'npm install --ignore-scripts' in ${folder}/bare first\n`)
})

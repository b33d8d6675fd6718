// Makes the package that is published. In the workspace `exports` points at index.ts, because Node runs TypeScript there; under a
// real node_modules it does not, so a packed copy holds plain JavaScript and types:
//   build      writes dist/ (JavaScript, .d.ts, gear.wasm)
//   prepack    builds, and lets `publishConfig.exports` take the place of `exports` (npm itself does not apply it)
//   postpack   puts package.json back and removes dist/
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const folder = dirname(import.meta.dirname)
const dist = join(folder, 'dist')
const manifest = join(folder, 'package.json')
const kept = join(folder, 'package.json.workspace')

function build(): void {
  rmSync(dist, { recursive: true, force: true })
  const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc')
  const { status, error } = spawnSync(process.execPath, [tsc, '-p', join(folder, 'tsconfig.build.json')], { stdio: 'inherit' })
  if (status !== 0) throw new Error(`tsc failed with status ${status}; nothing is packed`, { cause: error })
  copyFileSync(join(folder, 'gear.wasm'), join(dist, 'gear.wasm'))
}

function prepack(): void {
  // A run that was killed left the packed form behind: begin from the kept one.
  if (existsSync(kept)) renameSync(kept, manifest)
  build()
  const text = readFileSync(manifest, 'utf8')
  const {
    scripts: _scripts,
    publishConfig,
    ...rest
  } = JSON.parse(text) as Record<string, unknown> & { publishConfig: { exports: unknown } }
  writeFileSync(kept, text)
  writeFileSync(manifest, `${JSON.stringify({ ...rest, exports: publishConfig.exports }, null, 2)}\n`)
}

function postpack(): void {
  if (existsSync(kept)) renameSync(kept, manifest)
  rmSync(dist, { recursive: true, force: true })
}

const commands: Readonly<Record<string, () => void>> = { build, prepack, postpack }
const command = commands[process.argv[2] ?? '']
if (command === undefined) throw new Error(`give one of ${Object.keys(commands).join(', ')}`)
command()

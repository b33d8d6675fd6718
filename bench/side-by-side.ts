// Holdfast beside restic and borg from the host, in turn, on the same input: `sh bin/node-run bench/side-by-side.ts PATH [--rounds N] [--tools A,B] [--out FILE]`.
// Measures first backup, unchanged run, forced re-read and restore, each as a whole process; wall time, CPU time, peak memory and repository size. A
// round counts only if the restored tree equals the source (diff -r --no-dereference). Peers are whatever the host has on PATH.
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { isoTime, systemClock } from '@holdfast/shared/clock.ts'

type Measured = { readonly seconds: number; readonly cpuSeconds: number; readonly peakMiB: number }
type Step = 'first' | 'unchanged' | 'forced' | 'restore'
type Tool = {
  readonly name: string
  readonly version: string
  readonly init: (work: string) => readonly string[]
  readonly steps: Record<Step, (work: string, source: string) => readonly string[]>
  readonly env: (work: string) => Record<string, string>
  /** Where the restored copy of the source stands. */
  readonly restored: (work: string, source: string) => string
}

const holdfast = resolve(import.meta.dirname, '../node_modules/.bin/holdfast')
const TOOLS: readonly Tool[] = [
  {
    name: 'holdfast',
    version: versionOf(holdfast, ['--version']),
    init: () => [holdfast, 'init'],
    env: (work) => ({
      HOLDFAST_REPO: join(work, 'repository'),
      HOLDFAST_PASSWORD: 'for the bench only',
      XDG_STATE_HOME: join(work, 'state'),
      XDG_CACHE_HOME: join(work, 'cache'),
      XDG_CONFIG_HOME: join(work, 'config'),
    }),
    steps: {
      first: (_, source) => [holdfast, 'backup', '--quiet', source],
      unchanged: (_, source) => [holdfast, 'backup', '--quiet', source],
      forced: (_, source) => [holdfast, 'backup', '--quiet', '--force', source],
      restore: (work) => [holdfast, 'restore', 'latest', '--quiet', '--target', join(work, 'restored')],
    },
    restored: (work, source) => join(work, 'restored', source),
  },
  {
    name: 'restic',
    version: versionOf('restic', ['version']),
    init: () => ['restic', 'init', '-q'],
    env: (work) => ({
      RESTIC_REPOSITORY: join(work, 'repository'),
      RESTIC_PASSWORD: 'for the bench only',
      XDG_CACHE_HOME: join(work, 'cache'),
    }),
    steps: {
      first: (_, source) => ['restic', 'backup', '-q', source],
      unchanged: (_, source) => ['restic', 'backup', '-q', source],
      forced: (_, source) => ['restic', 'backup', '-q', '--force', source],
      restore: (work) => ['restic', 'restore', 'latest', '-q', '--target', join(work, 'restored')],
    },
    restored: (work, source) => join(work, 'restored', source),
  },
  {
    name: 'borg',
    version: versionOf('borg', ['--version']),
    init: () => ['borg', 'init', '-e', 'repokey-blake2'],
    env: (work) => ({ BORG_REPO: join(work, 'repository'), BORG_PASSPHRASE: 'for the bench only', BORG_BASE_DIR: join(work, 'borg') }),
    steps: {
      first: (_, source) => ['borg', 'create', '-C', 'zstd,3', '::first', source],
      unchanged: (_, source) => ['borg', 'create', '-C', 'zstd,3', '::unchanged', source],
      forced: (_, source) => ['borg', 'create', '-C', 'zstd,3', '--files-cache', 'disabled', '::forced', source],
      restore: (work) => ['sh', '-c', `mkdir -p '${join(work, 'restored')}' && cd '${join(work, 'restored')}' && borg extract ::first`],
    },
    restored: (work, source) => join(work, 'restored', source),
  },
]
const STEPS: readonly Step[] = ['first', 'unchanged', 'forced', 'restore']

function versionOf(command: string, args: readonly string[]): string {
  const result = spawnSync(command, args, { encoding: 'utf8' })
  return result.status === 0 ? result.stdout.trim().split('\n')[0]! : ''
}

/** Runs a command to its end and reads its own account of memory and time from /proc while it lives. */
async function measure(command: readonly string[], env: Record<string, string>): Promise<Measured> {
  const start = systemClock.monotonicMs()
  const child = spawn(command[0]!, command.slice(1), {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env },
  })
  let errors = ''
  child.stderr.on('data', (data: Buffer) => (errors = (errors + data.toString()).slice(-2000)))
  let done: number | null | undefined
  const ended = new Promise<void>((resolve) =>
    child.on('exit', (code) => {
      done = code
      resolve()
    }),
  )
  let peakKiB = 0
  let ticks = 0
  while (done === undefined) {
    const seen = look(child.pid!)
    peakKiB = Math.max(peakKiB, seen.peakKiB)
    ticks = Math.max(ticks, seen.ticks)
    await Promise.race([ended, systemClock.sleep(10)])
  }
  if (done !== 0) throw new Error(`${command.join(' ')} ended with ${done}: ${errors}`)
  return { seconds: (systemClock.monotonicMs() - start) / 1000, cpuSeconds: ticks / 100, peakMiB: peakKiB / 1024 }
}

/** High-water mark of memory and CPU ticks of a process and its children. */
function look(pid: number): { peakKiB: number; ticks: number } {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .split(' ')
      .filter(Boolean)
      .map((child) => look(Number(child)))
    const own = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0)
    return {
      peakKiB: own + children.reduce((sum, child) => sum + child.peakKiB, 0),
      ticks: [11, 12].reduce((sum, field) => sum + Number(stat[field]), 0) + children.reduce((sum, child) => sum + child.ticks, 0),
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ESRCH')
      return { peakKiB: 0, ticks: 0 }
    throw error
  }
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '3' },
    tools: { type: 'string', default: 'holdfast,restic,borg' },
    out: { type: 'string' },
  },
})
const source = resolve(positionals[0] ?? '/usr/share')
const tools = TOOLS.filter((tool) => tool.version !== '' && values.tools.split(',').includes(tool.name))
const results: Record<string, { steps: Record<Step, Measured[]>; repositoryMB: number[] }> = {}
for (const tool of tools) results[tool.name] = { steps: { first: [], unchanged: [], forced: [], restore: [] }, repositoryMB: [] }
for (let round = 1; round <= Number(values.rounds); round++) {
  for (const tool of tools) {
    const work = mkdtempSync(join(tmpdir(), `bench-${tool.name}-`))
    try {
      const env = tool.env(work)
      await measure(tool.init(work), env)
      for (const step of STEPS) {
        const measured = await measure(tool.steps[step](work, source), env)
        results[tool.name]!.steps[step].push(measured)
        process.stderr.write(
          `round ${round} ${tool.name} ${step}: ${measured.seconds.toFixed(2)} s, ${measured.cpuSeconds.toFixed(1)} s CPU, ${measured.peakMiB.toFixed(0)} MiB\n`,
        )
        if (step === 'first')
          results[tool.name]!.repositoryMB.push(
            Number(spawnSync('du', ['-sB1', join(work, 'repository')], { encoding: 'utf8' }).stdout.split('\t')[0]) / 1e6,
          )
      }
      const diff = spawnSync('diff', ['-r', '--no-dereference', source, tool.restored(work, source)], {
        encoding: 'utf8',
        maxBuffer: 64 * 2 ** 20,
      })
      const differences = diff.stdout
        .split('\n')
        .filter((line) => line !== '' && !/ is a (character|block) special file| is a (fifo|socket)/.test(line))
      if (differences.length > 0) throw new Error(`${tool.name} restored something else: ${differences.slice(0, 3).join('; ')}`)
    } finally {
      rmSync(work, { recursive: true, force: true })
    }
  }
}
const restic = results['restic']
const lines = [
  `# ${source}, ${values.rounds} rounds, medians`,
  '',
  `${isoTime(systemClock.now()).slice(0, 10)}, ${cpus()[0]?.model} x ${cpus().length}, Node ${process.version}`,
  '',
]
lines.push('| | first | unchanged | forced re-read | restore | peak memory | repository |', '|---|---|---|---|---|---|---|')
for (const tool of tools) {
  const { steps, repositoryMB } = results[tool.name]!
  const cell = (step: Step): string => {
    const own = median(steps[step].map((run) => run.seconds))
    const ratio =
      restic === undefined || tool.name === 'restic'
        ? ''
        : ` (${(own / median(restic.steps[step].map((run) => run.seconds))).toFixed(2)} x restic)`
    return `${own.toFixed(2)} s${ratio}, ${median(steps[step].map((run) => run.cpuSeconds)).toFixed(1)} s CPU`
  }
  const peak = Math.max(...STEPS.flatMap((step) => steps[step].map((run) => run.peakMiB)))
  lines.push(`| ${tool.version} | ${STEPS.map(cell).join(' | ')} | ${peak.toFixed(0)} MiB | ${median(repositoryMB).toFixed(0)} MB |`)
}
process.stdout.write(`${lines.join('\n')}\n`)
if (values.out !== undefined) writeFileSync(values.out, `${lines.join('\n')}\n`)

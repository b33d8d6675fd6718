// The loop: takes an input from the corpus, changes it, runs the target in this process, and keeps the input where it reached what none had reached.
// Whatever a target throws, takes too long over or allocates without measure is a failure; its input is made as small as it can be.
import { allocation } from './allocation.ts'
import { byteMutator, type ByteMutator } from './byte-mutator.ts'
import { Coverage, takenFeatures, wordsOf } from './coverage.ts'
import { jsonMutator } from './json-mutator.ts'
import { numbersOf } from './numbers.ts'
import type { Target } from './target.ts'

export const SLOW_MS = 1_000
export const ALLOCATION_MAX = 64 * 2 ** 20
const FAILURES_MAX = 8
const MINIMISING_RUNS = 3_000
const MINIMISING_MS = 15_000
/** From here on a run is looked at more closely, for what it leaves on the heap. */
const CLOSER_LOOK_MS = 50

export type Failure = { readonly target: string; readonly why: string; readonly stack: string; readonly input: Buffer }

export type TargetReport = {
  readonly target: string
  readonly executions: number
  readonly seconds: number
  readonly taken: number
  readonly refused: number
  readonly corpus: number
  readonly reached: number
  readonly branches: number
  readonly failures: readonly Failure[]
}

export type FuzzOptions = {
  readonly target: Target
  readonly seed: string
  readonly executions: number
  /** Inputs that were kept earlier. */
  readonly kept: readonly Buffer[]
  /** Told of every input before it is run, so that one that never comes back is known. */
  readonly begin: (input: Buffer) => void
  /** Collects garbage where the process may. */
  readonly collect?: (() => void) | undefined
}

/** Runs a target so many times. Seeds and kept inputs come first and count. */
export async function fuzz(options: FuzzOptions): Promise<TargetReport & { readonly found: readonly Buffer[] }> {
  const { target, executions } = options
  const numbers = numbersOf(`${options.seed}/${target.name}`)
  const coverage = new Coverage()
  const seeds = await target.seeds()
  const mutate = mutatorOf(target, numbers)
  const failures = new Map<string, Failure>()
  const outcomes = { taken: 0, refused: 0 }
  const corpus: Buffer[] = []
  const found: Buffer[] = []
  const started = performance.now()
  let done = 0

  const attempt = async (input: Buffer): Promise<boolean> => {
    done++
    let isNew = false
    const result = await execute(options, input, () => {
      isNew = coverage.take()
    })
    if ('outcome' in result) {
      outcomes[result.outcome]++
      return isNew
    }
    if (failures.size < FAILURES_MAX && !failures.has(result.key)) failures.set(result.key, await minimised(options, input, result))
    return false
  }

  takenFeatures()
  for (const input of [...seeds, ...options.kept]) {
    await attempt(input)
    corpus.push(input)
  }
  if (corpus.length === 0) throw new Error(`target ${target.name} has no seeds`)
  while (done < executions && failures.size < FAILURES_MAX) {
    // Half of the time what was found last: it leads on from there.
    const at = numbers.oneIn(2) ? numbers.below(corpus.length) : corpus.length - 1 - numbers.below(Math.min(corpus.length, 16))
    const input = mutate(corpus[at]!, numbers.pick(corpus))
    if (!(await attempt(input))) continue
    corpus.push(input)
    found.push(input)
  }
  const { reached, of } = coverage.reachedIn(target.covers)
  return {
    target: target.name,
    executions: done,
    seconds: (performance.now() - started) / 1000,
    ...outcomes,
    corpus: corpus.length,
    reached,
    branches: of,
    failures: [...failures.values()],
    found,
  }
}

function mutatorOf(target: Target, numbers: ReturnType<typeof numbersOf>): ByteMutator {
  const words = wordsOf(target.covers)
  const asBytes = byteMutator(
    numbers,
    target.bytesMax,
    words.map((word) => Buffer.from(word)),
  )
  return target.form === 'json' ? jsonMutator(numbers, target.bytesMax, words, asBytes) : asBytes
}

type Failed = { readonly key: string; readonly why: string; readonly stack: string }

/** One run of one input. `ran` is called when it is over, before a slow one is looked at more closely. */
export async function execute(
  options: Pick<FuzzOptions, 'target' | 'begin' | 'collect'>,
  input: Buffer,
  ran: () => void = () => undefined,
): Promise<{ outcome: 'taken' | 'refused' } | Failed> {
  const { target } = options
  options.begin(input)
  allocation.reset()
  const started = performance.now()
  try {
    const running = target.run(input)
    const outcome = typeof running === 'string' ? running : await running
    const took = performance.now() - started
    const asked = allocation.bytes()
    ran()
    if (asked > ALLOCATION_MAX) return { key: 'allocation', why: `asks for ${asked} bytes of memory`, stack: '' }
    if (took <= CLOSER_LOOK_MS) return { outcome }
    const failed = await lookedAt(options, input, took)
    takenFeatures()
    return failed ?? { outcome }
  } catch (error) {
    takenFeatures()
    const { stack = '', name, message } = error instanceof Error ? error : new Error(String(error))
    return { key: `${name} ${placeOf(stack) || message.replaceAll(/\d+/g, '0').slice(0, 80)}`, why: `${name}: ${message}`, stack }
  }
}

/** A slow run again, for time (this thread's alone, for a busy machine is no failure) and for what it adds to the heap. */
async function lookedAt(options: Pick<FuzzOptions, 'target' | 'collect'>, input: Buffer, took: number): Promise<Failed | undefined> {
  let least = took
  for (let n = 0; n < 2 && least > SLOW_MS; n++) {
    const from = process.threadCpuUsage()
    await options.target.run(input)
    const { user, system } = process.threadCpuUsage(from)
    least = Math.min(least, (user + system) / 1000)
  }
  if (least > SLOW_MS) return { key: 'slow', why: `takes ${Math.round(least)} ms`, stack: '' }
  if (options.collect === undefined) return undefined
  options.collect()
  const before = heapBytes()
  await options.target.run(input)
  const grown = heapBytes() - before
  options.collect()
  const kept = heapBytes() - before
  // Some of what a run adds is of no use any more before it ends, and nobody sees when.
  if (grown > 4 * ALLOCATION_MAX) return { key: 'allocation', why: `adds ${grown} bytes to the heap`, stack: '' }
  return kept > ALLOCATION_MAX ? { key: 'allocation', why: `leaves ${kept} bytes on the heap`, stack: '' } : undefined
}

function heapBytes(): number {
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** The first place of the product in a stack, by function, so that one bug is told once. */
function placeOf(stack: string): string {
  const line = stack
    .split('\n')
    .find((text) => /\/(?:agent|server|shared)\/[\w/.-]+\.ts:/.test(text) || /\/test\/fuzz\/targets\//.test(text))
  return line?.trim() ?? ''
}

/** The same failure with as little input as is found within a bounded number of runs. */
async function minimised(options: FuzzOptions, input: Buffer, failed: Failed): Promise<Failure> {
  let [least, why, stack] = [Buffer.from(input), failed.why, failed.stack]
  const until = performance.now() + MINIMISING_MS
  let runs = 0
  const tries = async (smaller: Buffer): Promise<boolean> => {
    if (runs++ >= MINIMISING_RUNS || performance.now() > until) {
      runs = MINIMISING_RUNS
      return false
    }
    const result = await execute(options, smaller)
    if (!('key' in result) || result.key !== failed.key) return false
    ;[least, why, stack] = [Buffer.from(smaller), result.why, result.stack]
    return true
  }
  if (failed.key !== 'slow' && failed.key !== 'allocation') {
    for (let size = Math.ceil(least.length / 2); size >= 1 && runs < MINIMISING_RUNS; size = size === 1 ? 0 : Math.ceil(size / 2))
      for (let at = 0; at < least.length && runs < MINIMISING_RUNS;)
        if (!(await tries(Buffer.concat([least.subarray(0, at), least.subarray(at + size)])))) at += size
    const plain = options.target.form === 'bytes' ? 0 : 0x30
    for (let at = 0; at < least.length && runs < MINIMISING_RUNS; at++) {
      if (least[at] === plain) continue
      const simpler = Buffer.from(least)
      simpler[at] = plain
      await tries(simpler)
    }
  }
  takenFeatures()
  return { target: options.target.name, why, stack, input: least }
}

/** Of these inputs the few and small ones that together reach all that they reach. */
export async function distilled(options: Pick<FuzzOptions, 'target' | 'begin'>, inputs: readonly Buffer[]): Promise<Buffer[]> {
  const features = new Map<Buffer, readonly number[]>()
  for (const input of inputs) {
    let reached: readonly number[] = []
    const result = await execute(options, input, () => {
      // Which branches, not how often: the corpus is to stay small.
      reached = takenFeatures().map((feature) => feature >> 8)
    })
    if ('outcome' in result) features.set(input, reached)
  }
  const covered = new Set<number>()
  const chosen: Buffer[] = []
  // The smallest first: a large one stays only for what no smaller one reaches.
  for (const [input, reached] of [...features].toSorted(([a], [b]) => a.length - b.length)) {
    if (reached.every((feature) => covered.has(feature))) continue
    for (const feature of reached) covered.add(feature)
    chosen.push(input)
  }
  return chosen
}

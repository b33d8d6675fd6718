// Reports a test run as a person reads it: one line for each file, failures in full, skipped tests by name; and its counts as JSON.
// Lines go to descriptor 3 where bin/test opened it, so that what tests print themselves can go to a log file; else to standard output.
// Promises: nothing that went wrong is left uncounted, also a file that could not be loaded and an error outside any test.
import { fstatSync, writeFileSync, writeSync } from 'node:fs'
import { stripVTControlCharacters } from 'node:util'
import type { Reporter, TestModule, TestSuite, Vitest } from 'vitest/node'

export type Counts = { readonly passed: number; readonly failed: number; readonly skipped: number }
type ReportedError = { readonly message?: string; readonly stack?: string; readonly diff?: string }

export default class PlainReporter implements Reporter {
  #outputFile: string | undefined
  readonly #descriptor = isOpen(3) ? 3 : 1

  onInit(vitest: Vitest): void {
    const { outputFile } = vitest.config
    if (typeof outputFile === 'string') this.#outputFile = outputFile
  }

  onTestModuleEnd(file: TestModule): void {
    const { passed, failed, skipped } = countModule(file)
    const notes = [`${passed + failed} tests`, ...(skipped > 0 ? [`${skipped} skipped`] : []), `${seconds(file)} s`]
    this.#say(`${failed === 0 ? 'ok  ' : 'FAIL'} ${file.relativeModuleId} (${notes.join(', ')})`)
    for (const error of file.errors()) this.#sayFailure(file.relativeModuleId, [error])
    for (const suite of file.children.allSuites()) if (suite.errors().length > 0) this.#sayFailure(suite.fullName, suite.errors())
    for (const test of file.children.allTests()) {
      const result = test.result()
      if (result.state === 'failed') this.#sayFailure(test.fullName, result.errors)
      if (result.state === 'skipped') this.#say(`     skipped: ${test.fullName}`)
    }
  }

  onTestRunEnd(files: readonly TestModule[], outside: readonly ReportedError[]): void {
    if (outside.length > 0) this.#sayFailure('outside any test', outside)
    if (this.#outputFile === undefined) return
    const sum = { passed: 0, failed: outside.length, skipped: 0 }
    for (const file of files) {
      const counts = countModule(file)
      sum.passed += counts.passed
      sum.failed += counts.failed
      sum.skipped += counts.skipped
    }
    writeFileSync(this.#outputFile, `${JSON.stringify(sum)}\n`)
  }

  #sayFailure(name: string, errors: readonly ReportedError[]): void {
    this.#say(`     failed: ${name}`)
    for (const error of errors) {
      const text = stripVTControlCharacters([error.message, error.diff, ownFrames(error.stack)].filter(Boolean).join('\n'))
      this.#say(text.replace(/^/gm, '       '))
    }
  }

  #say(line: string): void {
    writeSync(this.#descriptor, `${line}\n`)
  }
}

/** A failed hook or a file that did not load counts as one failure, for the tests it kept from running are only "skipped". */
function countModule(file: TestModule): Counts {
  let [passed, skipped] = [0, 0]
  let failed = file.errors().length > 0 || file.state() === 'queued' || file.state() === 'pending' ? 1 : 0
  for (const suite of file.children.allSuites()) if (hasErrors(suite)) failed++
  for (const test of file.children.allTests()) {
    const { state } = test.result()
    if (state === 'passed') passed++
    else if (state === 'skipped') skipped++
    else failed++
  }
  if (failed === 0 && !file.ok()) failed = 1
  return { passed, failed, skipped }
}

function hasErrors(suite: TestSuite): boolean {
  return suite.errors().length > 0
}

/** The lines of a stack that are the project's own. */
function ownFrames(stack: string | undefined): string {
  const frames = (stack ?? '').split('\n').filter((line) => /^\s+at /.test(line))
  return frames
    .filter((line) => !line.includes('node_modules') && !line.includes('node:') && !line.includes('(<anonymous>)'))
    .slice(0, 6)
    .join('\n')
}

function seconds(file: TestModule): string {
  const { collectDuration, duration } = file.diagnostic()
  return ((collectDuration + duration) / 1000).toFixed(1)
}

function isOpen(descriptor: number): boolean {
  try {
    const entry = fstatSync(descriptor)
    return entry.isFile() || entry.isFIFO() || entry.isCharacterDevice()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBADF') return false
    throw error
  }
}

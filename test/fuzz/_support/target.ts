// What a target of the fuzzer is, and what it may say about an input.
import { isHoldfastError } from '@holdfast/shared/errors.ts'

export type Target = {
  readonly name: string
  /** What is tried, and what must hold, in one line for people. */
  readonly about: string
  /** How inputs are changed: as bytes, as JSON (and sometimes as bytes), or as text. */
  readonly form: 'bytes' | 'json' | 'text'
  /** Modules of the product whose branches this is to reach, by path; for the report and for the words to try. */
  readonly covers: readonly string[]
  /** Share of a run's executions: 1 for a cheap parser, less where each costs more. */
  readonly weight: number
  /** Inputs are cut to this many bytes. */
  readonly bytesMax: number
  /** What honest writers make, from which mutation starts. The same for every process. */
  readonly seeds: () => readonly Buffer[] | Promise<readonly Buffer[]>
  /**
   * Tries one input. Returns whether the product took it; refuses by an error of the family. Anything else that is thrown is a failure: a
   * `Violation` where the product took what it must not, or gave what it took back differently.
   */
  readonly run: (input: Buffer) => Outcome | Promise<Outcome>
}

export type Outcome = 'taken' | 'refused'

/** The product did what it promises never to do. */
export class Violation extends Error {
  override readonly name = 'Violation'
}

export function violation(what: string): never {
  throw new Violation(what)
}

/** `taken`, or `refused` where the product threw an error of its family; everything else that it throws goes on. */
export function judged(attempt: () => void): Outcome {
  try {
    attempt()
    return 'taken'
  } catch (error) {
    if (isHoldfastError(error)) return 'refused'
    throw error
  }
}

/** The value, or undefined where the product refused with an error of its family. */
export function accepted<T>(attempt: () => T): T | undefined {
  try {
    return attempt()
  } catch (error) {
    if (isHoldfastError(error)) return undefined
    throw error
  }
}

export function requireSame(a: Uint8Array, b: Uint8Array, what: string): void {
  if (!Buffer.from(a.buffer, a.byteOffset, a.length).equals(b)) violation(`${what}: written again it has other bytes`)
}

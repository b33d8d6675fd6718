// What the watching thread asks of the fuzzing thread, and what it is told.
import type { Failure, TargetReport } from './fuzzer.ts'

type Common = {
  /** Empty for all. */
  readonly targets: readonly string[]
  readonly shared: SharedArrayBuffer
}

export type Job = Common &
  (
    | { readonly act: 'list' }
    /** Runs `executions` over the chosen targets, by their weights; `keep` afterwards gives the inputs that are worth keeping. */
    | { readonly act: 'fuzz' | 'keep'; readonly executions: number; readonly seed: string }
    | { readonly act: 'replay'; readonly file: string }
  )

/** Buffers arrive as plain byte arrays. */
export type Told =
  | { readonly kind: 'list'; readonly targets: readonly { readonly name: string; readonly about: string }[] }
  | { readonly kind: 'target'; readonly name: string }
  | { readonly kind: 'report'; readonly report: Omit<TargetReport, 'failures'> & { readonly failures: readonly ToldFailure[] } }
  | { readonly kind: 'corpus'; readonly target: string; readonly inputs: readonly Uint8Array[] }
  | { readonly kind: 'replayed'; readonly target: string; readonly result: { readonly outcome: string } | ToldFailed }
  | { readonly kind: 'end' }

export type ToldFailed = { readonly key: string; readonly why: string; readonly stack: string }
export type ToldFailure = Omit<Failure, 'input'> & { readonly input: Uint8Array }

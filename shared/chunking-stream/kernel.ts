// Loads gear.wasm and gives each chunker an instance with a memory of its own, whose size never changes: views stay valid.
import { readFileSync } from 'node:fs'

const PAGE = 65_536
/** Where the caller's bytes begin in the memory; the table stands before it. */
const BUFFER_AT = 4096

/** One instance of the kernel. Offsets are relative to `buffer`. */
export interface Kernel {
  readonly buffer: Uint8Array
  /** The first candidate p with first <= p <= last, or -1; needs first >= 64 and last <= buffer.length. */
  find(first: number, last: number): number
}

// The part of the WebAssembly interface that is used; the library types have it only together with a browser's.
interface Memory {
  readonly buffer: ArrayBuffer
}
interface WebAssemblyInterface {
  readonly Module: new (bytes: Uint8Array) => object
  readonly Memory: new (limits: { initial: number; maximum: number }) => Memory
  readonly Instance: new (module: object, imports: { env: { memory: Memory } }) => { readonly exports: Readonly<Record<string, unknown>> }
}
const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyInterface }

type Find = (first: number, last: number, threshold: bigint) => number

let compiled: object | undefined

/** A kernel over `bytes` bytes of its own. Throws RangeError when the memory cannot be had. */
export function createKernel(table: BigUint64Array, threshold: bigint, bytes: number): Kernel {
  compiled ??= new WebAssembly.Module(readFileSync(new URL('./gear.wasm', import.meta.url)))
  const pages = Math.ceil((BUFFER_AT + bytes) / PAGE)
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
  const entries = new DataView(memory.buffer)
  table.forEach((entry, i) => entries.setBigUint64(i * 8, entry, true))
  const find = new WebAssembly.Instance(compiled, { env: { memory } }).exports['find'] as Find
  // The kernel takes the threshold as a signed 64-bit value with the same bits.
  const bound = BigInt.asIntN(64, threshold)
  return {
    buffer: new Uint8Array(memory.buffer, BUFFER_AT, bytes),
    find: (first, last) => (find(BUFFER_AT + first, BUFFER_AT + last, bound) >>> 0 || BUFFER_AT - 1) - BUFFER_AT,
  }
}

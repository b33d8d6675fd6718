// BLAKE3-256, plain and keyed: the one module that chooses an implementation. The prebuilt native one where it loads, otherwise the
// WebAssembly half of `blake3` (about a third of the speed). Both are held to the same vectors by a test.
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)

/** A reusable hasher: `hex` of the whole of `bytes`, nothing kept between calls. */
export type Hasher = {
  readonly hex: (bytes: Uint8Array) => string
  /** Hashes the parts as if they were joined. */
  readonly hexOf: (parts: readonly Uint8Array[]) => string
}

/** A running hash over many pieces. */
export type RunningHash = { update(bytes: Uint8Array): void; digest(): Buffer }

export type Blake3 = {
  readonly implementation: 'native' | 'wasm'
  readonly keyed: (key: Buffer) => Hasher
  readonly plain: () => Hasher
  readonly running: () => RunningHash
}

type NativeHasher = { reset(): void; update(bytes: Uint8Array): NativeHasher; digest(format: 'hex'): string }
type NativeModule = { Blake3Hasher: { new (): NativeHasher; newKeyed(key: Buffer): NativeHasher } }
type WasmHash = { update(bytes: Uint8Array): WasmHash; digest(encoding: 'hex'): string; dispose(): void }
type WasmModule = { createHash(): WasmHash; createKeyed(key: Buffer): WasmHash }

/** The prebuilt native implementation. Throws where the platform has none. */
export function nativeBlake3(): Blake3 {
  const { Blake3Hasher } = require('@napi-rs/blake-hash') as NativeModule
  // `digest('hex')` is used throughout: `digestBuffer()` holds memory until the event loop turns, which a busy worker never lets happen.
  const reuse = (hasher: NativeHasher): Hasher => ({
    hex: (bytes) => {
      hasher.reset()
      hasher.update(bytes)
      return hasher.digest('hex')
    },
    hexOf: (parts) => {
      hasher.reset()
      for (const part of parts) hasher.update(part)
      return hasher.digest('hex')
    },
  })
  return {
    implementation: 'native',
    keyed: (key) => reuse(Blake3Hasher.newKeyed(key)),
    plain: () => reuse(new Blake3Hasher()),
    running: () => {
      const hasher = new Blake3Hasher()
      return { update: (bytes) => void hasher.update(bytes), digest: () => Buffer.from(hasher.digest('hex'), 'hex') }
    },
  }
}

/** The portable implementation in WebAssembly. */
export function wasmBlake3(): Blake3 {
  const wasm = require('blake3-wasm') as WasmModule
  const once = (make: () => WasmHash): Hasher => {
    const hexOf = (parts: readonly Uint8Array[]): string => {
      const hash = make()
      for (const part of parts) hash.update(part)
      return hash.digest('hex')
    }
    return { hex: (bytes) => hexOf([bytes]), hexOf }
  }
  return {
    implementation: 'wasm',
    keyed: (key) => once(() => wasm.createKeyed(key)),
    plain: () => once(() => wasm.createHash()),
    running: () => {
      const hash = wasm.createHash()
      return { update: (bytes) => void hash.update(bytes), digest: () => Buffer.from(hash.digest('hex'), 'hex') }
    },
  }
}

function choose(): Blake3 {
  try {
    return nativeBlake3()
  } catch (error) {
    // No prebuilt binary for this platform is an expected state, told by `doctor` through `implementation`; anything else is a fault.
    if (error instanceof Error && /Cannot find (native binding|module)/i.test(error.message)) return wasmBlake3()
    throw error
  }
}

export const blake3: Blake3 = choose()

/** BLAKE3-256 of `bytes`, keyed where a key is given. For hot paths keep a `Hasher`. */
export function blake3Hash(bytes: Uint8Array, key?: Buffer): Buffer {
  return Buffer.from((key === undefined ? blake3.plain() : blake3.keyed(key)).hex(bytes), 'hex')
}

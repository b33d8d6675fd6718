// The kernel: finds candidates of keyed 64-bit Gear in its own linear memory. Compiled by tools/build-kernel.ts to gear.wasm,
// which is committed; a test compiles it again and compares the bytes.
// Memory: 256 table entries, little-endian u64, at address 0; the caller's bytes from address 4096 up (kernel.ts sets both).
// Decided by measuring (Node 24.21, two-core EPYC machine in use by others, best scan of 64 MiB random bytes in 4 runs, GB/s): this
// loop 3.2; 16 or 32 bytes a turn 3.3; table offsets multiplied ahead by vectors, 64 at a time, 3.2; two places of the input in one
// vector, tested by its minimum every 16 bytes, 2.8; two places in two scalar states 2.8. In one run: the least of eight states
// tested once 1.4. Nothing beat the plain loop by more than the noise, so it stays.

/** The state after one more byte: h = 2h + T[byte] mod 2^64. A byte has left the state 64 steps later. */
function step(state: u64, byte: u32): u64 {
  return (state << 1) + load<u64>(byte << 3)
}

/**
 * The first candidate p with first <= p <= last, or 0. A candidate is an address whose 64 bytes before it, [p - 64, p), leave a
 * state under `threshold`. The caller keeps `first` at least 64 above the start of its bytes.
 */
export function find(first: u32, last: u32, threshold: u64): u32 {
  let at: u32 = first - 64
  let state: u64 = 0
  const tested: u32 = first - 1
  while (at < tested) state = step(state, load<u8>(at++))

  while (at + 8 <= last) {
    state = step(state, load<u8>(at))
    if (state < threshold) return at + 1
    state = step(state, load<u8>(at, 1))
    if (state < threshold) return at + 2
    state = step(state, load<u8>(at, 2))
    if (state < threshold) return at + 3
    state = step(state, load<u8>(at, 3))
    if (state < threshold) return at + 4
    state = step(state, load<u8>(at, 4))
    if (state < threshold) return at + 5
    state = step(state, load<u8>(at, 5))
    if (state < threshold) return at + 6
    state = step(state, load<u8>(at, 6))
    if (state < threshold) return at + 7
    state = step(state, load<u8>(at, 7))
    if (state < threshold) return at + 8
    at += 8
  }
  while (at < last) {
    state = step(state, load<u8>(at++))
    if (state < threshold) return at
  }
  return 0
}

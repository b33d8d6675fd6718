// Gives the memory of large buffers back at once. The engine sees only the small handles of buffers: waiting for its collector would let
// hundreds of megabytes stand, and making it collect costs more than everything else in a restore (decision 0007).

/**
 * Frees the memory of `bytes`, which nobody may look at afterwards: it and everything that shares its memory are then empty. A buffer that is only
 * a part of its memory is left as it is.
 */
export function release(bytes: Uint8Array): void {
  const { buffer } = bytes
  if (buffer instanceof ArrayBuffer && bytes.length > 0 && buffer.byteLength === bytes.length) buffer.transfer(0)
}

// Messages between threads turn Buffers into plain byte arrays; this turns them back, anywhere in a value, without copying.

/** `value` with every byte array as a Buffer over the same memory. */
export function revive(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  if (Array.isArray(value)) return value.map(revive)
  if (value === null || typeof value !== 'object') return value
  const out: Record<string, unknown> = {}
  for (const [key, item] of Object.entries(value)) out[key] = revive(item)
  return out
}

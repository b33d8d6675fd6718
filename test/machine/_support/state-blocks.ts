// Content that says what it is: every block of 64 bytes holds the number of the state it was written in and its own place, so that two states in
// one file, a gap or a shift can be seen in the file alone.

export const STATE_BLOCK = 64

/** `count` blocks of a state, the first being block `from` of its file. */
export function stateBytes(state: number, from: number, count: number): Buffer {
  const bytes = Buffer.alloc(count * STATE_BLOCK, 'state of a file, with its place ')
  for (let i = 0; i < count; i++) {
    bytes.writeUInt32LE(state, i * STATE_BLOCK)
    bytes.writeUInt32LE(from + i, i * STATE_BLOCK + 4)
  }
  return bytes
}

/** Undefined where all of a file is of one state and in its place, or what is wrong with it. */
export function mixture(content: Buffer): string | undefined {
  if (content.length % STATE_BLOCK !== 0) return `${content.length} bytes, which is no whole number of blocks`
  if (content.length === 0) return undefined
  const state = content.readUInt32LE(0)
  const expected = stateBytes(state, 0, content.length / STATE_BLOCK)
  if (expected.equals(content)) return undefined
  for (let at = 0; at < content.length; at += STATE_BLOCK) {
    const [found, place] = [content.readUInt32LE(at), content.readUInt32LE(at + 4)]
    if (found !== state || place !== at / STATE_BLOCK)
      return `block ${at / STATE_BLOCK} of ${content.length / STATE_BLOCK} is block ${place} of state ${found} in a file of state ${state}`
  }
  return 'blocks with other content'
}

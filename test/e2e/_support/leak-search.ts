// Searches bytes for words that must not be in them: as they are, in the encodings that programs put text into, and inside what is compressed.
import { readdirSync, readFileSync } from 'node:fs'
import { gunzipSync, inflateSync, zstdDecompressSync } from 'node:zlib'

/** All files below a directory, with their paths relative to it, one character for each byte. */
export function filesBelow(directory: string): { readonly name: string; readonly bytes: Buffer }[] {
  const found: { name: string; bytes: Buffer }[] = []
  // Names are bytes; Node's recursive listing would read them as text.
  const look = (at: Buffer): void => {
    for (const entry of readdirSync(at, { withFileTypes: true, encoding: 'buffer' })) {
      const path = Buffer.concat([at, Buffer.from('/'), entry.name])
      if (entry.isDirectory()) look(path)
      else if (entry.isFile()) found.push({ name: path.subarray(directory.length + 1).toString('latin1'), bytes: readFileSync(path) })
    }
  }
  look(Buffer.from(directory))
  return found
}

/** Every form of a word that is looked for, by the name of the form. */
export function formsOf(word: Buffer): ReadonlyMap<string, Buffer> {
  const forms = new Map<string, Buffer>([['as it is', word]])
  const text = word.toString('latin1')
  // Words of letters and digits alone have forms as text.
  if (/^[a-z0-9]+$/i.test(text)) {
    forms.set('lower case', Buffer.from(text.toLowerCase()))
    forms.set('upper case', Buffer.from(text.toUpperCase()))
    forms.set('UTF-16LE', Buffer.from(text, 'utf16le'))
    forms.set('UTF-16BE', Buffer.from(text, 'utf16le').swap16())
    forms.set('reversed', Buffer.from([...word].reverse()))
  }
  forms.set('hex', Buffer.from(word.toString('hex')))
  forms.set('HEX', Buffer.from(word.toString('hex').toUpperCase()))
  forms.set('percent', Buffer.from([...word].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')))
  for (let shift = 0; shift < 3; shift++) {
    // Only the digits that no neighbour of the word has a part in.
    const first = [0, 2, 3][shift]!
    const whole = Math.floor(((word.length + shift) * 4) / 3)
    for (const encoding of ['base64', 'base64url'] as const)
      forms.set(
        `${encoding} at ${shift}`,
        Buffer.from(
          Buffer.concat([Buffer.alloc(shift), word])
            .toString(encoding)
            .slice(first, whole),
        ),
      )
  }
  return forms
}

export type LeakSearch = (where: string, bytes: Buffer) => string[]

/** Makes a search for `words`; it answers with one line for each form of a word that is there. */
export function leakSearch(words: Readonly<Record<string, Buffer | string>>): LeakSearch {
  const wanted = Object.entries(words).flatMap(([what, word]) =>
    [...formsOf(Buffer.from(word as string))].map(([form, bytes]) => ({ what, form, bytes })),
  )
  const look = (where: string, bytes: Buffer): string[] =>
    wanted.filter((one) => bytes.includes(one.bytes)).map(({ what, form }) => `${where}: ${what}, ${form}`)
  return (where, bytes) => [
    ...look(where, bytes),
    ...[...unpacked(bytes)].flatMap(({ how, plain }) => look(`${where} (${how})`, plain)),
    ...look(`${where} (without chunk lengths)`, withoutChunkLengths(bytes)),
  ]
}

const PACKED = [
  { how: 'gzip', magic: Buffer.from('1f8b08', 'hex'), open: gunzipSync },
  { how: 'zstd', magic: Buffer.from('28b52ffd', 'hex'), open: zstdDecompressSync },
  { how: 'zlib', magic: Buffer.from('789c', 'hex'), open: inflateSync },
] as const
const PLAIN_MAX = 64 * 1024 * 1024

/** What stands compressed anywhere in the bytes. What merely looks like a beginning of it does not open and is nothing. */
function* unpacked(bytes: Buffer): Generator<{ how: string; plain: Buffer }> {
  for (const { how, magic, open } of PACKED)
    for (let at = bytes.indexOf(magic); at >= 0; at = bytes.indexOf(magic, at + 1)) {
      const plain = opened(() => open(bytes.subarray(at, at + PLAIN_MAX), { maxOutputLength: PLAIN_MAX }))
      if (plain !== undefined) yield { how: `${how} at ${at}`, plain }
    }
}

function opened(open: () => Buffer): Buffer | undefined {
  try {
    return open()
  } catch (error) {
    if (error instanceof Error && 'code' in error) return undefined
    throw error
  }
}

/** HTTP's chunk lengths could stand in the middle of a word. */
function withoutChunkLengths(bytes: Buffer): Buffer {
  return bytes.includes('\r\n')
    ? Buffer.from(bytes.toString('latin1').replaceAll(/\r\n[0-9a-f]{1,6}\r\n/gi, ''), 'latin1')
    : Buffer.alloc(0)
}

// Reads what an S3 store answers, strictly: bodies up to a limit and of the length announced, and the range really sent.
import { Readable } from 'node:stream'

/**
 * All bytes of a body, or undefined as soon as it is longer than `limitBytes`. Rejects where it ends before its announced length, so
 * that a broken connection is never taken for a short object. The body is always drained or destroyed.
 */
export async function collectBody(
  body: unknown,
  limitBytes: number,
  announced: number | undefined,
  moved: () => void,
): Promise<Buffer | undefined> {
  if (!(body instanceof Readable)) throw new TypeError('the reply has no body')
  if (announced !== undefined && announced > limitBytes) {
    destroyBody(body)
    return undefined
  }
  // Leaving the loop early, by return or error, destroys the body.
  if (announced !== undefined) {
    const into = Buffer.allocUnsafeSlow(announced)
    let length = 0
    for await (const chunk of chunks(body)) {
      moved()
      if (length + chunk.length > announced) throw new ShortBody('the reply is longer than announced')
      into.set(chunk, length)
      length += chunk.length
    }
    if (length < announced) throw new ShortBody('the reply ends before its announced length')
    return into
  }
  const parts: Buffer[] = []
  let length = 0
  for await (const chunk of chunks(body)) {
    moved()
    length += chunk.length
    if (length > limitBytes) return undefined
    parts.push(chunk)
  }
  return Buffer.concat(parts, length)
}

/** A transfer that broke; worth another try. */
class ShortBody extends Error {
  override readonly name = 'ShortBody'
}

async function* chunks(body: Readable): AsyncIterable<Buffer> {
  for await (const chunk of body) yield Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk))
}

export function destroyBody(body: unknown): void {
  if (body instanceof Readable) body.on('error', () => undefined).destroy()
}

/** Reads `bytes 0-9/100`; undefined for anything else. `to` is the last byte, included. */
export function parseContentRange(text: string | undefined): { from: number; to: number; total: number } | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(text ?? '')
  if (match === null) return undefined
  const [from, to, total] = [Number(match[1]), Number(match[2]), Number(match[3])]
  return from <= to && to < total ? { from, to, total } : undefined
}

// What every store checks before it acts, and the errors that every store words alike.
import { HoldfastError, printable } from '../errors.ts'
import type { ObjectName } from './store.ts'
import { isObjectName } from './store.ts'

/** Rejects a name outside the grammar before it can become a path or a key: only a defect or hostile data makes one. */
export function requireObjectName(name: string, allowed = true): void {
  if (!allowed || !isObjectName(name))
    throw new HoldfastError('failed', `'${printable(name.slice(0, 250))}' is not the name of an object; nothing was done`)
}

/** Checks what `list` accepts: empty, or an object name and a final slash. */
export function requirePrefix(prefix: string): void {
  if (prefix !== '') requireObjectName(prefix.slice(0, -1), prefix.endsWith('/'))
}

export function checkLimit(limitBytes: number): void {
  if (!Number.isSafeInteger(limitBytes) || limitBytes < 0)
    throw new HoldfastError('failed', 'a read needs a limit in whole bytes; nothing was read')
}

export function checkRange(range: { offset: number; length: number }): void {
  const { offset, length } = range
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && length >= 0
  if (!whole || (offset < 0 && length !== -offset) || !Number.isSafeInteger(offset + length))
    throw new HoldfastError('failed', `the range ${offset}+${length} is not one that can be read; nothing was read`)
}

/** Rejects with `cancelled` where the signal has aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw cancelled(signal)
}

export function cancelled(signal: AbortSignal): HoldfastError {
  return new HoldfastError('cancelled', 'cancelled before the storage had answered', { cause: signal.reason })
}

export function notFound(location: string, name: ObjectName): HoldfastError {
  return new HoldfastError('not-found', `${printable(location)} has no object ${name}`, { fields: { object: name } })
}

export function tooLarge(location: string, name: ObjectName, limitBytes: number): HoldfastError {
  return new HoldfastError(
    'too-large',
    `${name} in ${printable(location)} is longer than the ${limitBytes} bytes that such an object may have`,
    {
      fields: { object: name, limitBytes },
    },
  )
}

/** For an object that ends before the range asked for; `size` where it is known. */
export function endsBefore(
  location: string,
  name: ObjectName,
  range: { offset: number; length: number },
  size: number | undefined,
): HoldfastError {
  const has = size === undefined ? '' : `; it has ${size} bytes`
  return new HoldfastError('damaged', `${name} in ${printable(location)} ends before ${range.offset}+${range.length}${has}; run check`, {
    fields: { object: name, offset: range.offset, length: range.length },
  })
}

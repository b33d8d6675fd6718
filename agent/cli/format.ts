// Numbers, sizes and times as people read them, and sizes as people write them.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** `1.234 GiB`: three digits after the point up to MiB would be noise, so the number has about four digits. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit += 1
  }
  const digits = unit === 0 ? 0 : value < 10 ? 3 : value < 100 ? 2 : value < 1000 ? 1 : 0
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** `12,345`. */
export function formatCount(count: number): string {
  return String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ',')
}

/** `1 file`, `2 files`. */
export function formatMany(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`
}

/** `0:03`, `12:34`, `1:02:03`. */
export function formatDuration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  const pad = (value: number): string => String(value).padStart(2, '0')
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)]
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(seconds % 60)}` : `${minutes}:${pad(seconds % 60)}`
}

let local: Intl.DateTimeFormat | undefined

/** Local time with its offset, `2026-11-22 14:03:59 +01:00`, from milliseconds since 1970. */
export function formatTime(ms: number): string {
  local ??= new Intl.DateTimeFormat('en-GB', {
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hourCycle: 'h23',
    timeZoneName: 'longOffset',
  })
  const parts = new Map<string, string>(local.formatToParts(ms).map(({ type, value }) => [type, value]))
  const part = (type: string): string => parts.get(type) ?? ''
  const offset = part('timeZoneName').replace('GMT', '')
  return `${part('year')}-${part('month')}-${part('day')} ${part('hour')}:${part('minute')}:${part('second')} ${offset === '' ? '+00:00' : offset}`
}

const SIZE = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?$/i

/** Bytes of `500M`, `1.5G`, `64KiB`: units are powers of 1024. Throws `usage`, naming `option`. */
export function parseSize(text: string, option: string): number {
  const match = SIZE.exec(text.trim())
  const bytes = match === null ? Number.NaN : Number(match[1]) * 1024 ** 'bkmgt'.indexOf((match[2] ?? '').toLowerCase() || 'b')
  if (!Number.isSafeInteger(Math.round(bytes)) || bytes < 0)
    throw new HoldfastError('usage', `${option} is a size such as 64K, 500M or 1.5G, not '${printable(text)}'`)
  return Math.round(bytes)
}

/** A whole number within bounds. Throws `usage`, naming `option`. */
export function parseWhole(text: string, option: string, least: number, most: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= least && value <= most))
    throw new HoldfastError('usage', `${option} is a whole number from ${least} to ${most}, not '${printable(text)}'`)
  return value
}

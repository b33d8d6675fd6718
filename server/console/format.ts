// How the console writes times, sizes, ids and states, the same on every page. A state is a word, a shape and a colour, never a colour alone.
import { parseTime } from '@holdfast/shared/clock.ts'
import { html } from './html.ts'
import type { Html } from './html.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
/** Between a number and its unit, so that they stay on one line. */
const GLUE = '\u00a0'

/** A span in words, in its two largest units: `3 h 12 min`, `2 d 4 h`. */
export function span(ms: number): string {
  const t = Math.max(0, ms)
  if (t < MINUTE) return `${Math.floor(t / 1000)}${GLUE}s`
  if (t < HOUR) return `${Math.floor(t / MINUTE)}${GLUE}min`
  const [big, bigName, small, smallName] = t < DAY ? [HOUR, 'h', MINUTE, 'min'] : [DAY, 'd', HOUR, 'h']
  const rest = Math.floor((t % big) / small)
  return `${Math.floor(t / big)}${GLUE}${bigName}${rest > 0 && t < 10 * DAY ? `${GLUE}${rest}${GLUE}${smallName}` : ''}`
}

/** A moment as people read it, in UTC: `2026-11-22 09:00`. */
export function moment(iso: string): string {
  return `${iso.slice(0, 10)} ${iso.slice(11, 16)}`
}

/** How long ago, or until when, with the moment itself at hand. A dash for never. */
export function ago(iso: string | null, now: number): Html {
  if (iso === null) return html`<span class="none">never</span>`
  const ms = now - parseTime(iso)
  const words = ms >= 0 ? (ms < 5000 ? 'just now' : `${span(ms)} ago`) : `in ${span(-ms)}`
  return html`<time datetime="${iso}" title="${moment(iso)} UTC">${words}</time>`
}

/** The moment first, for tables of what happened. */
export function at(iso: string | null): Html {
  return iso === null ? html`<span class="none">–</span>` : html`<time datetime="${iso}" class="num">${moment(iso)}</time>`
}

/** Bytes in binary units with three digits: `1.21 GiB`. */
export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let value = count
  let unit = 0
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? value : value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)}${GLUE}${units[unit]}`
}

/** A whole number with thin groups: `78 579`. */
export function count(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f')
}

/** How much smaller what was stored is: `12.4×`. */
export function ratio(of: number, stored: number): string {
  if (stored <= 0) return '–'
  const times = of / stored
  return `${times >= 100 ? times.toFixed(0) : times.toFixed(1)}×`
}

/** An identifier, hash or token, short but copyable by its title. */
export function short(id: string): Html {
  const underscore = id.indexOf('_')
  const keep = underscore < 0 ? 10 : underscore + 9
  return id.length <= keep + 1 ? html`<code>${id}</code>` : html`<code title="${id}">${id.slice(0, keep)}…</code>`
}

/** Who looks, and the names of people and tokens that they may know. */
export type People = { readonly self: string; readonly names: ReadonlyMap<string, string> }

/** Who acted, in words: by name where the visitor may know it. */
export function actor(who: string | null, people: People): Html {
  if (who === null) return html`<span class="none">nobody yet</span>`
  if (who === `user:${people.self}`) return html`you`
  const [kind = '', id = ''] = who.split(':')
  const words = { user: 'user', token: 'API token', agent: 'agent', policy: 'policy', code: 'enrolment code' }[kind]
  if (words === undefined || id === '') return html`${who}`
  const name = people.names.get(id)
  return html`${name ?? words}<span class="sub">${name !== undefined && `${words} `}${short(id)}</span>`
}

export type Tone = 'good' | 'warn' | 'bad' | 'idle' | 'busy'

/** One shape per tone, so that it can be told without colour: disc, triangle, square with a cross, ring, half disc. */
const SHAPES: { readonly [T in Tone]: Html } = {
  good: html`<circle cx="6" cy="6" r="5.5" /><path d="M3.5 6.2 5.3 8 8.6 4.3" class="cut" />`,
  warn: html`<path d="M6 .8 11.6 11H.4z" /><path d="M6 4.5v3M6 9.2v.2" class="cut" />`,
  bad: html`<rect x=".5" y=".5" width="11" height="11" rx="2" /><path d="M3.7 3.7l4.6 4.6M8.3 3.7 3.7 8.3" class="cut" />`,
  idle: html`<circle cx="6" cy="6" r="4.7" class="ring" />`,
  busy: html`<circle cx="6" cy="6" r="4.7" class="ring" /><path d="M6 1.3a4.7 4.7 0 0 1 0 9.4z" />`,
}

/** A state: shape, colour and word. */
export function badge(tone: Tone, word: string): Html {
  return html`<span class="badge ${tone}"
    ><svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" focusable="false">${SHAPES[tone]}</svg>${word}</span
  >`
}

/** The state of a run. */
export function runBadge(state: string): Html {
  const known: Readonly<Record<string, readonly [Tone, string]>> = {
    running: ['busy', 'Running'],
    ok: ['good', 'Done'],
    incomplete: ['warn', 'Incomplete'],
    failed: ['bad', 'Failed'],
    cancelled: ['idle', 'Cancelled'],
  }
  const [tone, word] = known[state] ?? ['idle', state]
  return badge(tone, word)
}

/** The state of a restore. */
export function restoreBadge(state: string): Html {
  const known: Readonly<Record<string, readonly [Tone, string]>> = {
    requested: ['busy', 'Requested'],
    awaiting_approval: ['warn', 'Waits for approval'],
    preparing: ['busy', 'Preparing'],
    awaiting_grant: ['warn', 'Waits for grant'],
    granted: ['busy', 'Granted'],
    running: ['busy', 'Running'],
    completed: ['good', 'Completed'],
    completed_with_errors: ['warn', 'Completed with errors'],
    failed: ['bad', 'Failed'],
    cancelled: ['idle', 'Cancelled'],
    expired: ['idle', 'Expired'],
    refused: ['idle', 'Refused'],
  }
  const [tone, word] = known[state] ?? ['idle', state]
  return badge(tone, word)
}

/** What an error code means and what to do, for people. */
export function codeWords(code: string | null): string {
  if (code === null) return ''
  const known: Readonly<Record<string, string>> = {
    'source-missing': 'the source is not there or not mounted; check the disk on the appliance',
    'source-empty': 'the source is suddenly empty; check the disk on the appliance',
    'source-unreadable': 'the source cannot be read; check its permissions on the appliance',
    'local-disk': "the appliance's own disk is full or failing; look at it there",
    incomplete: 'some files could not be read; their names are in the log on the appliance',
    'store-unreachable': 'the store did not answer; check network and endpoint',
    'store-refused': 'the store refused; check credentials and bucket policy',
    'store-full': 'the store is full; add room',
    unread: 'the store holds an object and does not give it; all else was restored: check the store and ask for the restore again',
    'journal-full': 'the journal of records is full because this server did not take them; check the queues',
    damaged: 'damage was found; run holdfast check on the appliance',
    'lease-lost': 'the agent stopped answering in the middle, several times',
    'grant-refused': 'the controller refused it',
    cancelled: 'somebody cancelled it',
    policy: 'a policy does not allow it',
  }
  return known[code] ?? `code ${code}`
}

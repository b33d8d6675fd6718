// The frame of every page: head, navigation, who is logged in, and small parts that pages share. No script or style stands in the page.
import { html } from './html.ts'
import type { Html, Part } from './html.ts'

export type Visitor = { readonly id: string; readonly userName: string; readonly role: 'administrator' | 'operator' | 'auditor' }

export type Frame = {
  readonly title: string
  /** Which entry of the navigation this page belongs to. */
  readonly here?: string
  readonly visitor: Visitor | undefined
  readonly body: Part
  /** True where the page keeps itself up to date. */
  readonly live?: boolean
}

/** Names of the files that pages load, with a mark of their content. */
export type Assets = { readonly style: string; readonly live: string; readonly logo: string }

const NAVIGATION = [
  ['/fleet', 'Fleet'],
  ['/runs', 'Runs'],
  ['/records', 'Records'],
  ['/restores', 'Restores'],
  ['/deletions', 'Deletions'],
  ['/controllers', 'Controllers'],
  ['/audit', 'Audit'],
  ['/queues', 'Queues'],
] as const

export function page(frame: Frame, assets: Assets): string {
  const { title, here, visitor, body, live } = frame
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>${title} · Holdfast</title>
<link rel="icon" type="image/svg+xml" href="${assets.logo}">
<link rel="stylesheet" href="${assets.style}">
${visitor !== undefined && html`<script src="${assets.live}" defer></script>`}
</head>
<body${visitor === undefined && html` class="alone"`}>
<a class="skip" href="#main">Skip to the content</a>
${visitor !== undefined && header(visitor, here, assets)}
<main id="main" tabindex="-1"${live === true && html` data-live`}>
${body}
</main>
</body>
</html>
`.text
}

function header(visitor: Visitor, here: string | undefined, assets: Assets): Html {
  return html`<header class="top">
    <a class="brand" href="/fleet"><img src="${assets.logo}" alt="" width="22" height="22" />Holdfast</a>
    <nav aria-label="Main">
      <ul>
        ${NAVIGATION.map(([address, word]) => html`<li><a href="${address}" ${here === address && html` aria-current="page"`}>${word}</a></li>`)}
      </ul>
    </nav>
    <form class="who" method="post" action="/log-out">
      <span><b>${visitor.userName}</b> <span class="role">${visitor.role}</span></span>
      <button class="quiet">Log out</button>
    </form>
  </header>`
}

/** A page's title with what stands beside it. */
export function heading(title: Part, aside?: Part): Html {
  return html`<div class="heading">
    <h1>${title}</h1>
    ${aside !== undefined && html`<div class="aside">${aside}</div>`}
  </div>`
}

export type Column = { readonly head: Part; readonly kind?: 'num' | 'wide' | 'wrap' }

/** A table that scrolls sideways by itself where the window is narrow. `rows` are cells; the first is the row's head. */
export function table(label: string, columns: readonly Column[], rows: readonly (readonly Part[])[]): Html {
  return html`<div class="scroll" role="region" aria-label="${label}" tabindex="0">
    <table>
      <thead>
        <tr>
          ${columns.map(({ head, kind }) => html`<th scope="col" ${kind !== undefined && html` class="${kind}"`}>${head}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (cells) =>
            html`<tr>
              ${cells.map((cell, at) => oneCell(cell, at, columns[at]))}
            </tr> `,
        )}
      </tbody>
    </table>
  </div>`
}

function oneCell(cell: Part, at: number, column: Column | undefined): Html {
  const kind = column?.kind === undefined ? html`` : html` class="${column.kind}"`
  return at === 0 ? html`<th scope="row" ${kind}>${cell}</th>` : html`<td${kind}>${cell}</td>`
}

/** What a list shows when there is nothing in it: what it is for and how something gets there. */
export function empty(what: string, how: Part): Html {
  return html`<div class="empty">
    <p class="what">${what}</p>
    <div>${how}</div>
  </div>`
}

/** Names and values. What has no value is left out. */
export function facts(pairs: readonly (readonly [Part, Part])[]): Html {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== false)
  return html`<dl class="facts">
    ${shown.map(
      ([name, value]) =>
        html`<div>
          <dt>${name}</dt>
          <dd>${value}</dd>
        </div>`,
    )}
  </dl>`
}

/** The same act on the command line, to copy. */
export function command(text: string, label = 'On the command line'): Html {
  return html`<div class="command">${label !== '' && html`<span>${label}</span>`}<code tabindex="0">${text}</code></div>`
}

/** Links to what else there is of a list. */
export function pager(next: string | undefined, first: string | undefined): Html | false {
  if (next === undefined && first === undefined) return false
  return html`<nav class="pager" aria-label="Pages">
    ${first !== undefined && html`<a href="${first}">Newest</a>`}${next !== undefined && html`<a href="${next}" rel="next">Older</a>`}
  </nav>`
}

export type Choice = { readonly value: string; readonly word: string }

/** One drop-down of a filter form. */
export function select(name: string, label: string, choices: readonly Choice[], chosen: string | undefined): Html {
  return html`<label
    >${label}
    <select name="${name}">
      <option value="">All</option>
      ${choices.map(({ value, word }) => html`<option value="${value}" ${value === chosen && html` selected`}>${word}</option>`)}
    </select></label
  >`
}

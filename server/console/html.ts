// Pages as tagged templates: every value is escaped unless it is itself made by `html`, so that no text from outside becomes markup.
import { printable } from '@holdfast/shared/errors.ts'

/** Markup that is safe to send. Only `html` and `join` make it. */
export class Html {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
  toString(): string {
    return this.text
  }
}

export type Part = Html | string | number | null | undefined | false | readonly Part[]

/** Escapes what is put in; null, undefined and false leave nothing, arrays are put one after another. Attributes must be quoted. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  let text = strings[0] ?? ''
  parts.forEach((part, at) => {
    text += render(part) + (strings[at + 1] ?? '')
  })
  return new Html(text)
}

/** Parts with markup between them. */
export function join(parts: readonly Part[], between: Html): Html {
  return new Html(parts.map(render).join(between.text))
}

/** Text as it stands, line by line, in a block that the keyboard can reach to scroll. */
export function preformatted(text: string): Html {
  return new Html(`<pre tabindex="0">${text.split('\n').map(render).join('\n')}</pre>`)
}

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

function render(part: Part): string {
  if (part === null || part === undefined || part === false) return ''
  if (part instanceof Html) return part.text
  if (typeof part === 'object') return part.map(render).join('')
  return printable(String(part)).replace(/[&<>"']/g, (c) => ESCAPES[c] ?? '')
}

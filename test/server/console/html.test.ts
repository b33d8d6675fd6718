// Escaping: no text from outside becomes markup, whatever it is.
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { bytes, count, span } from 'holdfast-server/console/format.ts'
import { html, join, preformatted } from 'holdfast-server/console/html.ts'
import { safeNext } from 'holdfast-server/console/session.ts'

it('lets no value add or end a tag or an attribute', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      expect(html`<p title="${text}">${[text, text]}</p>`.text).toMatch(/^<p title="[^<>"']*">[^<>"']*<\/p>$/)
      expect(preformatted(text).text).toMatch(/^<pre tabindex="0">[^<>"']*<\/pre>$/)
    }),
  )
})

it('puts markup into markup as it is, and nothing for what is absent', () => {
  expect(html`<b>${html`<i>${'x&y'}</i>`}${null}${undefined}${false}${0}</b>`.text).toBe('<b><i>x&amp;y</i>0</b>')
  expect(join(['a', html`<i></i>`, '<'], html`, `).text).toBe('a, <i></i>, &lt;')
})

it('leads back only to paths of this site', () => {
  for (const bad of [
    'https://evil.example/',
    '//evil.example',
    '/\\evil.example',
    '/log-out',
    'javascript:alert(1)',
    '/a\nb',
    '/"><script>',
    undefined,
  ])
    expect(safeNext(bad)).toBe('/')
  expect(safeNext('/restores?state=failed&agentId=ag_1')).toBe('/restores?state=failed&agentId=ag_1')
})

it('writes spans, sizes and counts for people', () => {
  const plain = (text: string): string => text.replace(/[\u00a0\u202f]/g, ' ')
  expect([59_000, 60_000, 3_600_000, 11_520_000, 86_400_000, 187_200_000].map((ms) => plain(span(ms)))).toEqual([
    '59 s',
    '1 min',
    '1 h',
    '3 h 12 min',
    '1 d',
    '2 d 4 h',
  ])
  expect([0, 999, 1024, 1_300_000, 1_299_000_000].map((size) => plain(bytes(size)))).toEqual([
    '0 B',
    '999 B',
    '1.00 KiB',
    '1.24 MiB',
    '1.21 GiB',
  ])
  expect(plain(count(78_579))).toBe('78 579')
})

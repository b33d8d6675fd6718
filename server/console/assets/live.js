// Keeps a page up to date: asks for the page itself again and puts its main part in place. Without this script the page works the same.
// It rests while the page is hidden, while somebody fills a form in, and after twenty minutes without a hand on it, so that a session
// that nobody uses still ends.
const EVERY_MS = 15000
const REST_MS = 20 * 60000
let touched = performance.now()
for (const kind of ['pointermove', 'keydown', 'scroll', 'touchstart']) {
  addEventListener(kind, () => (touched = performance.now()), { passive: true })
}

async function refresh() {
  const main = document.querySelector('main[data-live]')
  if (main === null || document.hidden || performance.now() - touched > REST_MS) return
  const active = document.activeElement
  if (active !== null && main.contains(active) && active.matches('input, select, textarea, button')) return
  if (main.querySelector('details[open]') !== null || String(getSelection()) !== '') return
  const reply = await fetch(location.href, { headers: { accept: 'text/html' }, credentials: 'same-origin' })
  if (reply.redirected && new URL(reply.url).pathname === '/log-in') return location.assign(reply.url)
  if (!reply.ok) return
  const fresh = new DOMParser().parseFromString(await reply.text(), 'text/html').querySelector('main[data-live]')
  if (fresh === null) return
  const address = active !== null && main.contains(active) ? active.getAttribute('href') : null
  const regions = [...main.querySelectorAll('.scroll')].map((region) => region.scrollLeft)
  main.replaceChildren(...fresh.childNodes)
  ;[...main.querySelectorAll('.scroll')].forEach((region, at) => (region.scrollLeft = regions[at] ?? 0))
  if (address !== null) main.querySelector(`a[href="${CSS.escape(address)}"]`)?.focus({ preventScroll: true })
}

// A server that is away for a moment changes nothing on the page; the next turn asks again.
setInterval(() => refresh().catch(() => undefined), EVERY_MS)

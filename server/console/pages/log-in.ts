// The pages of somebody who is not logged in: the log-in itself, and messages that stand alone.
import { html } from '../html.ts'
import type { Html } from '../html.ts'

/** Why somebody sees the log-in, in words. */
const WHY: Readonly<Record<string, string>> = {
  ended:
    'Your session has ended, because half an hour passed without a request or eight hours since you logged in. Log in again to go on where you were.',
  out: 'You are logged out.',
}

export type LogInState = {
  readonly next: string
  readonly why?: string | undefined
  readonly userName?: string | undefined
  readonly wrong?: string | undefined
}

export function logInBody({ next, why, userName, wrong }: LogInState, logo: string): Html {
  const told = why === undefined ? undefined : WHY[why]
  return html`<div class="card">
    <p class="brand"><img src="${logo}" alt="" width="26" height="26" />Holdfast</p>
    <h1>Log in</h1>
    ${told !== undefined && wrong === undefined && html`<div class="notice" role="status"><p>${told}</p></div>`}
    ${wrong !== undefined && html`<div class="notice bad-notice" role="alert"><p>${wrong}</p></div>`}
    <form method="post" action="/log-in">
      <input type="hidden" name="next" value="${next}" />
      <label
        >User name
        <input
          name="userName"
          value="${userName ?? ''}"
          autocomplete="username"
          autocapitalize="none"
          spellcheck="false"
          required
          maxlength="32"
          ${(userName ?? '') === '' && html` autofocus`}
      /></label>
      <label
        >Password
        <input
          name="password"
          type="password"
          autocomplete="current-password"
          required
          maxlength="1024"
          ${(userName ?? '') !== '' && html` autofocus`}
      /></label>
      <label
        >Code of your authenticator, or a recovery code
        <input
          name="code"
          inputmode="text"
          autocomplete="one-time-code"
          autocapitalize="none"
          spellcheck="false"
          required
          minlength="6"
          maxlength="40"
      /></label>
      <button>Log in</button>
    </form>
  </div>`
}

export function messageBody(title: string, detail: string, requestId: string, alone: boolean): Html {
  const inner = html`<h1>${title}</h1>
    <p>${detail}</p>
    <p class="soft">Request <code>${requestId}</code></p>
    <p><a href="/fleet">Go to the fleet</a></p>`
  return alone ? html`<div class="card">${inner}</div>` : inner
}

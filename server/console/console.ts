// The console: pages rendered on the server, behind the log-in, as a client of the public API. One cookie, no script or style in a page,
// nothing from another host (obligation O9); reading works without JavaScript.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { HoldfastError, isHoldfastError } from '@holdfast/shared/errors.ts'
import type { App, Context } from '../context.ts'
import { refuseForgery } from '../identify.ts'
import { Api } from './api.ts'
import { page } from './layout.ts'
import type { Assets, Frame, Visitor } from './layout.ts'
import { agentPage, backupNow } from './pages/agent.ts'
import { auditPage } from './pages/audit.ts'
import type { PageContext, PageOf } from './pages/context.ts'
import { controllerPage, controllersPage } from './pages/controllers.ts'
import { deletionPage, deletionsPage, refuseDeletion, refuseDeletionPage } from './pages/deletions.ts'
import { fleetPage } from './pages/fleet.ts'
import { logInBody, messageBody } from './pages/log-in.ts'
import type { LogInState } from './pages/log-in.ts'
import { recordsPage } from './pages/records.ts'
import { askPage, doAsk, restorePage, restoresPage } from './pages/restores.ts'
import { runPage, runsPage } from './pages/runs.ts'
import { logInAddress, safeNext } from './session.ts'

const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
const FILES = {
  style: ['style.css', 'text/css; charset=utf-8'],
  live: ['live.js', 'text/javascript; charset=utf-8'],
  logo: ['logo.svg', 'image/svg+xml'],
} as const
const YEAR_S = 31_536_000

const PAGES: readonly (readonly [string, PageOf])[] = [
  ['/fleet', fleetPage],
  ['/agents/:id', agentPage],
  ['/runs', runsPage],
  ['/runs/:id', runPage],
  ['/records', recordsPage],
  ['/restores', restoresPage],
  ['/restores/:id', restorePage],
  ['/restores/:id/approve', askPage('approve')],
  ['/restores/:id/cancel', askPage('cancel')],
  ['/deletions', deletionsPage],
  ['/deletions/:id', deletionPage],
  ['/deletions/:id/refuse', refuseDeletionPage],
  ['/audit', auditPage],
  ['/controllers', controllersPage],
  ['/controllers/:id', controllerPage],
]
type Act = (context: PageContext, body: Readonly<Record<string, string>>) => Promise<string>
/** Changes, each answered with the address to go to next. */
const ACTS: readonly (readonly [string, Act])[] = [
  ['/agents/:id/backup-now', backupNow],
  ['/restores/:id/approve', (context) => doAsk(context, 'approve')],
  ['/restores/:id/cancel', (context) => doAsk(context, 'cancel')],
  ['/deletions/:id/refuse', refuseDeletion],
]

/** Adds the console's pages to the application. */
export async function registerConsole(app: App, context: Context): Promise<void> {
  const files = Object.fromEntries(
    Object.entries(FILES).map(([key, [name, type]]) => {
      const bytes = readFileSync(new URL(`./assets/${name}`, import.meta.url))
      return [key, { name, type, bytes, mark: createHash('sha256').update(bytes).digest('hex').slice(0, 12) }]
    }),
  ) as Record<keyof typeof FILES, { name: string; type: string; bytes: Buffer; mark: string }>
  const address = (key: keyof typeof FILES): string => `/console/${files[key].name}?v=${files[key].mark}`
  const assets: Assets = { style: address('style'), live: address('live'), logo: address('logo') }

  await app.register(async (scope) => {
    scope.setErrorHandler((error, request, reply) => sendError(context, assets, error, request, reply))
    scope.addHook('onSend', (_request, reply, payload, done) => {
      reply
        .header('content-security-policy', CSP)
        .header('referrer-policy', 'same-origin')
        .header('cross-origin-opener-policy', 'same-origin')
        .header('permissions-policy', 'camera=(), microphone=(), geolocation=()')
      done(null, payload)
    })
    const hidden = { schema: { hide: true } } as const

    for (const { name, type, bytes } of Object.values(files)) {
      scope.get(`/console/${name}`, { config: { access: 'public' }, ...hidden }, (_request, reply) => reply.type(type).send(bytes))
    }
    // The address changes with the content, so it may be kept.
    scope.addHook('onSend', (request, reply, payload, done) => {
      if (request.url.startsWith('/console/')) reply.header('cache-control', `public, max-age=${YEAR_S}, immutable`)
      done(null, payload)
    })

    scope.get('/', { config: { access: 'session' }, ...hidden }, (_request, reply) => reply.redirect('/fleet', 303))
    scope.get('/log-in', { config: { access: 'public' }, ...hidden }, (request, reply) => {
      const { next, why } = request.query as Record<string, unknown>
      return sendLogIn(reply, assets, { next: safeNext(textOf(next)), why: textOf(why) })
    })
    scope.post('/log-in', { config: { access: 'public' }, ...hidden, bodyLimit: 8 * 1024 }, async (request, reply) => {
      refuseForgery(request)
      const { userName = '', password = '', code = '', next } = formOf(request)
      try {
        await new Api(app, request).post('/v1/log-in', { userName: userName.trim(), password, code: code.trim() }, reply)
      } catch (error) {
        if (!isHoldfastError(error, 'unauthenticated', 'too-many', 'unprocessable')) throw error
        // What does not fit the form of a name or code is as wrong as one that is not known.
        const wrong =
          error.code === 'unprocessable'
            ? 'User name, password or code is wrong; try again with a fresh code.'
            : `${sentence(error.message)}.`
        return sendLogIn(reply.status(error.code === 'too-many' ? 429 : 401), assets, { next: safeNext(next), userName, wrong })
      }
      return reply.redirect(safeNext(next), 303)
    })
    scope.post('/log-out', { config: { access: 'session' }, ...hidden }, async (request, reply) => {
      await new Api(app, request).post('/v1/log-out', {}, reply)
      return reply.redirect('/log-in?why=out', 303)
    })
    // Somebody who mistypes an address gets a page; a program gets the API's own answer.
    scope.get('/*', { config: { access: 'public' }, ...hidden }, (request, reply) => {
      if (request.headers.accept?.includes('text/html') !== true) return reply.callNotFound()
      throw new HoldfastError('not-found', 'this address leads nowhere; check it, or start from the fleet')
    })
    for (const [url, render] of PAGES) {
      scope.get(url, { config: { access: 'session' }, ...hidden }, async (request, reply) => {
        const of = contextOf(app, context, request)
        const { title, here, body, live } = await render(of)
        return send(reply, { title, here, body, visitor: of.visitor, live: live === true }, assets)
      })
    }
    for (const [url, act] of ACTS) {
      scope.post(url, { config: { access: 'session' }, ...hidden }, async (request, reply) =>
        reply.redirect(await act(contextOf(app, context, request), formOf(request)), 303),
      )
    }
  })
}

function contextOf(app: App, { clock, config }: Context, request: FastifyRequest): PageContext {
  const visitor = visitorOf(request)
  if (visitor === undefined) throw new HoldfastError('unauthenticated', 'this page needs a log-in')
  const params = request.params as Record<string, string>
  // They become part of an address of the API, so nothing but an identifier may stand there.
  if (Object.values(params).some((id) => !/^[a-z]{2,5}_[0-9a-f]{32}$/.test(id)))
    throw new HoldfastError('not-found', 'this address names nothing; check the id in it')
  const query = Object.entries(request.query as Record<string, unknown>).map(([key, value]) => [key, textOf(value) || undefined] as const)
  return {
    api: new Api(app, request),
    visitor,
    limits: { now: clock.now(), graceMs: config.graceMs, silentMs: config.silentMs },
    origin: `${config.secure ? 'https' : 'http'}://${request.host}`,
    params,
    query: Object.fromEntries(query),
  }
}

function visitorOf({ principal }: FastifyRequest): Visitor | undefined {
  return principal?.kind === 'user' ? { id: principal.id, userName: principal.userName, role: principal.role } : undefined
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value.length <= 500 ? value : undefined
}

/** The fields of a form, each once and as text. */
function formOf(request: FastifyRequest): Record<string, string> {
  const fields = Object.entries((request.body ?? {}) as Record<string, unknown>)
  return Object.fromEntries(fields.filter((field): field is [string, string] => typeof field[1] === 'string'))
}

function send(reply: FastifyReply, frame: Frame, assets: Assets): FastifyReply {
  return reply.type('text/html; charset=utf-8').send(page(frame, assets))
}

function sendLogIn(reply: FastifyReply, assets: Assets, state: LogInState): FastifyReply {
  return send(reply, { title: 'Log in', visitor: undefined, body: logInBody(state, assets.logo) }, assets)
}

const TITLES: Readonly<Record<number, string>> = {
  400: 'That was not understood',
  403: 'You may not do this',
  404: 'There is nothing here',
  409: 'That cannot be done now',
  413: 'That is too much at once',
  422: 'That does not fit',
  429: 'Too many at once',
}

/** Errors as pages in plain words; somebody without a session is led to the log-in. */
function sendError(context: Context, assets: Assets, thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const error = isHoldfastError(thrown) ? thrown : undefined
  const status = error?.httpStatus ?? statusOf(thrown)
  if (status === 401) return reply.redirect(logInAddress(request), 303)
  if (status >= 500) {
    const stack = thrown instanceof Error ? thrown.stack : undefined
    context.log.error('request-failed', { requestId: request.id, route: request.routeOptions.url, code: error?.code ?? 'failed', stack })
  }
  const title = TITLES[status] ?? 'The server failed'
  const detail =
    error === undefined || error.code === 'failed'
      ? 'The server’s log says more under the request below. Trying again may help.'
      : `${sentence(error.message)}.`
  const visitor = visitorOf(request)
  return send(reply.status(status), { title, visitor, body: messageBody(title, detail, request.id, visitor === undefined) }, assets)
}

function statusOf(thrown: unknown): number {
  const status = thrown !== null && typeof thrown === 'object' && 'statusCode' in thrown ? thrown.statusCode : undefined
  return typeof status === 'number' && status >= 400 && status < 500 ? status : 500
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

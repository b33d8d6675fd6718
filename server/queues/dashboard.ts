// The queue dashboard (bull-board) under /queues, behind the console's log-in: read-only for everybody, changes under /queues/manage for
// administrators alone, each with a line in the audit. It shows ids, codes and numbers only, and its page asks no other host for anything.
import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import { FastifyAdapter } from '@bull-board/fastify'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { App, Context } from '../context.ts'
import type { Access } from '../principal.ts'
import { actorOf } from '../principal.ts'
import { logInAddress } from '../console/session.ts'
import { BullQueue } from './bullmq-queue.ts'
import type { QueueHandle } from './bullmq-queue.ts'

const VIEW = '/queues'
const MANAGE = '/queues/manage'
const DESCRIPTIONS: Readonly<Record<string, string>> = {
  transmissions: 'Checks each record of a transmission and puts it in place',
  recoveries: 'Checks each record of a recovery and puts it in place',
  restores: 'Moves each restore request on; one that waits for people or its agent is delayed',
  watch: 'Each minute: what should have arrived and did not',
}

/** The page's own styles are set by its script; everything else comes from this server, and nothing may frame it. */
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"

/** Adds the dashboard; nothing where the queue is not BullMQ's. The queue must have been checked before. */
export async function registerQueueDashboard(app: App, context: Context): Promise<void> {
  if (!(context.queue instanceof BullQueue)) return
  const handles = context.queue.handles
  await addBoard(app, context, handles, { prefix: VIEW, access: 'session', readOnly: true })
  await addBoard(app, context, handles, { prefix: MANAGE, access: 'administer', readOnly: false })
}

const FONTS = { 'font-sans': 'system-ui, sans-serif', 'font-mono': 'ui-monospace, monospace' } as const

/** The console's one accent, in the board's own words for it. */
function accent(color: string, ink: string, selected: string): Record<string, string> {
  return {
    primary: color,
    'primary-foreground': ink,
    ring: color,
    'state-selected': selected,
    'state-selected-hover': selected,
    'state-selected-foreground': color,
    'sidebar-primary': color,
    'sidebar-primary-foreground': ink,
    'sidebar-ring': color,
    'sidebar-state-selected': selected,
    'sidebar-state-selected-hover': selected,
    'sidebar-state-selected-foreground': color,
  }
}

type Board = { readonly prefix: string; readonly access: Access; readonly readOnly: boolean }

async function addBoard(app: App, context: Context, handles: readonly QueueHandle[], board: Board): Promise<void> {
  const adapter = new FastifyAdapter()
  adapter.setBasePath(board.prefix)
  createBullBoard({
    queues: handles.map((handle) => makeAdapter(handle, board.readOnly)),
    serverAdapter: adapter,
    options: {
      uiConfig: {
        boardTitle: 'Holdfast queues',
        boardLogo: { path: '/console/logo.svg', width: 24, height: 24 },
        favIcon: { default: '/console/logo.svg', alternative: '/console/logo.svg' },
        miscLinks: [
          { text: 'Fleet', url: '/fleet' },
          { text: 'Records', url: '/records' },
          { text: 'Restores', url: '/restores' },
        ],
        hideDocsLink: true,
        locale: { lng: 'en-US' },
        showMetrics: true,
        theme: {
          light: { ...FONTS, ...accent('#2e56c8', '#ffffff', '#e3e9fa') },
          dark: { ...FONTS, ...accent('#86a5ff', '#0e1217', '#232d47') },
        },
      },
    },
  })
  // Whatever refuses a request before a handler of the board sees it.
  adapter.setErrorHandler((error) => {
    const known = isHoldfastError(error) ? error : undefined
    if (known === undefined) context.log.error('request-failed', { route: board.prefix, stack: error.stack })
    return {
      status: (known?.httpStatus ?? 500) as 500,
      body: { error: { key: 'ERRORS.INTERNAL_SERVER_ERROR' }, message: known?.message ?? 'the server failed; look into its log' },
    }
  })
  await app.register(
    async (scope) => {
      scope.addHook('onRoute', (route) => {
        route.config = { ...route.config, access: board.access }
      })
      scope.addHook('preHandler', async (request, reply) => {
        if (request.method !== 'GET') await audit(context, request, board)
        else if (board.readOnly && request.principal?.role === 'administrator' && isPage(request))
          return reply.redirect(`${MANAGE}${request.url.slice(VIEW.length)}`, 303)
      })
      scope.addHook('onSend', (request, reply, payload, done) => done(null, finish(request, reply, payload)))
      await scope.register(adapter.registerPlugin())
    },
    { prefix: board.prefix },
  )
}

function makeAdapter(handle: QueueHandle, readOnlyMode: boolean): BullMQAdapter {
  const adapter = new BullMQAdapter(handle, { readOnlyMode, description: DESCRIPTIONS[handle.name] ?? '' })
  adapter.setFormatter('data', plainValues)
  adapter.setFormatter('returnValue', plainValues)
  adapter.setFormatter('progress', (value: unknown) => (typeof value === 'number' ? value : 0))
  return adapter
}

/** Ids, numbers and state words; whatever else somebody may have put into a job is not shown. */
function plainValues(value: unknown): Record<string, string | number> {
  if (value === null || typeof value !== 'object') return {}
  const shown: Record<string, string | number> = {}
  for (const [key, item] of Object.entries(value).slice(0, 20)) {
    if (!/^[a-zA-Z]{1,32}$/.test(key)) continue
    if (typeof item === 'number') shown[key] = item
    else if (typeof item === 'string') shown[key] = /^([a-z]{2,5}_[0-9a-f]{32}|[a-z_]{1,32})$/.test(item) ? item : '(hidden)'
  }
  return shown
}

/** Before the change itself, so that none is without its line. The target is the queue and, where it is about one, the job. */
async function audit({ records, clock }: Context, request: FastifyRequest, board: Board): Promise<void> {
  if (request.principal === undefined) return
  const { queueName, jobId } = request.params as { queueName?: string; jobId?: string }
  const verb = (request.routeOptions.url ?? '')
    .slice(board.prefix.length)
    .split('/')
    .filter((part) => part !== '' && !part.startsWith(':') && part !== 'api' && part !== 'queues')
    .join('-')
  const target = [queueName, jobId].filter((part) => part !== undefined && /^[A-Za-z0-9_:-]{1,128}$/.test(part)).join('/')
  await records.insert({
    table: 'audit',
    row: {
      id: request.id,
      createdAt: clock.now(),
      actor: actorOf(request.principal),
      action: `queue.${verb || 'change'}`,
      target: target || 'queues',
      controllerId: null,
    },
  })
}

function isPage(request: FastifyRequest): boolean {
  return request.headers.accept?.includes('text/html') === true && !request.url.includes('/static/') && !request.url.includes('/api/')
}

/** The last word on every answer: where to log in, what the page may load, and the page itself without what comes from elsewhere. */
function finish(request: FastifyRequest, reply: FastifyReply, payload: unknown): unknown {
  reply.header('content-security-policy', CSP).header('referrer-policy', 'no-referrer')
  if (reply.statusCode === 401 && isPage(request)) {
    reply.code(303).header('location', logInAddress(request)).removeHeader('content-length')
    return ''
  }
  if (request.url.includes('/static/') && reply.statusCode === 200) reply.header('cache-control', 'private, max-age=86400')
  const type = reply.getHeader('content-type')
  if (typeof payload !== 'string' || !String(type).startsWith('text/html')) return payload
  reply.removeHeader('content-length')
  return payload
    .replace(/<link[^>]*href="https?:\/\/[^>]*>\s*/g, '')
    .replace(/<div id="root">[\s\S]*?<script defer/, '<div id="root"></div>\n<script defer')
}

// The control server's HTTP application, built from its seams and not listening: identities, access, errors, OpenAPI and all routes.
import cookie from '@fastify/cookie'
import formbody from '@fastify/formbody'
import swagger from '@fastify/swagger'
import Fastify from 'fastify'
import type { FastifyReply, FastifyRequest, FastifyServerFactory, RouteOptions } from 'fastify'
import { jsonSchemaTransform, serializerCompiler } from 'fastify-type-provider-zod'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import type { z } from 'zod'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import { HEADER, responseBytes } from '@holdfast/shared/protocol/signatures.ts'
import type { App, Context, Deps } from './context.ts'
import { checkSignature, findAgent, identify, Nonces, readSignedHeaders } from './identify.ts'
import type { SignedHeaders } from './identify.ts'
import { makeLogIn } from './log-in.ts'
import type { LoggedIn, LogIn } from './log-in.ts'
import { authorize } from './principal.ts'
import { invalid, makeErrorHandler } from './problems.ts'
import { agentChannelRoutes } from './routes/agent-channel.ts'
import { agentRestoreRoutes } from './routes/agent-restores.ts'
import { agentRoutes } from './routes/agents.ts'
import { alertRoutes } from './routes/alerts.ts'
import { apiTokenRoutes } from './routes/api-tokens.ts'
import { auditRoutes } from './routes/audit.ts'
import { agentNeedsRoutes } from './routes/agent-needs.ts'
import { controllerRoutes } from './routes/controllers.ts'
import { deletionRoutes } from './routes/deletions.ts'
import { enrolmentCodeRoutes } from './routes/enrolment-codes.ts'
import { healthRoutes } from './routes/health.ts'
import { instructionRoutes } from './routes/instructions.ts'
import { logInRoutes } from './routes/log-in.ts'
import { policyRoutes } from './routes/policies.ts'
import { recordRoutes } from './routes/records.ts'
import { restoreRoutes } from './routes/restores.ts'
import { runRoutes } from './routes/runs.ts'
import { siteRoutes } from './routes/sites.ts'
import { snapshotRoutes } from './routes/snapshots.ts'
import { storeRoutes } from './routes/stores.ts'
import { userRoutes } from './routes/users.ts'
import { Waker } from './waker.ts'

/** JSON bodies; routes that take more say so. 10,000 tokens are about 700 kB. */
const BODY_BYTES_MAX = 1024 * 1024
const NOTHING = Buffer.alloc(0)

/** Adds routes of another part, such as console and queue dashboard; they name their access like all others. */
export type Plugin = (app: App, context: PageContext) => void | Promise<void>
/** What pages get beside the seams: the one log-in, whose throttle they share with the API. */
export type PageContext = Context & { readonly logIn: (attempt: LogIn) => Promise<LoggedIn> }

/**
 * The application, ready for `inject` or `listen`. `app.waker` ends parked polls; closing the application does it too. The queue is not
 * started or checked here.
 */
export async function buildApp(
  deps: Deps & {
    waker?: Waker
    plugins?: readonly Plugin[]
    serverFactory?: FastifyServerFactory
    trustProxy?: boolean
    routesSeen?: (route: RouteOptions) => void
  },
): Promise<App> {
  const context: Context = { ...deps, waker: deps.waker ?? new Waker() }
  const app = Fastify({
    bodyLimit: BODY_BYTES_MAX,
    exposeHeadRoutes: false,
    keepAliveTimeout: 72_000,
    requestTimeout: 120_000,
    forceCloseConnections: 'idle',
    genReqId: () => makeId(deps.random, 'request'),
    routerOptions: { maxParamLength: 128 },
    return503OnClosing: true,
    trustProxy: deps.trustProxy ?? false,
    ...(deps.serverFactory === undefined ? {} : { serverFactory: deps.serverFactory }),
  }).withTypeProvider<ZodTypeProvider>()
  setUpBodies(app)
  app.setErrorHandler(makeErrorHandler(deps.log, deps.clock))
  app.setNotFoundHandler(() => {
    throw new HoldfastError('not-found', 'there is nothing at this address; see /openapi.json')
  })
  // Before the access hook, which reads the session's cookie.
  await app.register(cookie)
  const routes: RouteOptions[] = []
  app.addHook('onRoute', (route) => {
    routes.push(route)
    deps.routesSeen?.(route)
  })
  setUpAccess(app, context)
  await app.register(formbody, { bodyLimit: 64 * 1024 })
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Holdfast control server',
        version: '1',
        description: 'Runs agents, keeps the record of every transmission and recovery, relays restores.',
      },
      components: {
        securitySchemes: {
          token: { type: 'http', scheme: 'bearer', description: 'An API token: tok_<id>_<secret>' },
          session: { type: 'apiKey', in: 'cookie', name: '__Host-holdfast' },
          agent: { type: 'apiKey', in: 'header', name: HEADER.signature, description: "Ed25519 by the agent's key over the whole request" },
        },
      },
    },
    transform: jsonSchemaTransform,
  })
  const logIn = makeLogIn(context)
  logInRoutes(app, context, logIn)
  for (const add of ROUTES) add(app, context)
  for (const plugin of deps.plugins ?? []) await plugin(app, { ...context, logIn })
  let stopping = false
  app.addHook('preClose', (done) => {
    stopping = true
    context.waker.stop()
    done()
  })
  // Connections that answer while the server stops are not kept: stopping would wait for them to idle away.
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (stopping) reply.header('connection', 'close')
    done(null, payload)
  })
  await app.ready()
  const open = routes.find((route) => route.config?.access === undefined)
  if (open !== undefined) throw new HoldfastError('failed', `route ${String(open.method)} ${open.url} names no access`)
  return app
}

const ROUTES: readonly ((app: App, context: Context) => void)[] = [
  healthRoutes,
  controllerRoutes,
  siteRoutes,
  storeRoutes,
  instructionRoutes,
  enrolmentCodeRoutes,
  agentRoutes,
  policyRoutes,
  runRoutes,
  snapshotRoutes,
  recordRoutes,
  restoreRoutes,
  deletionRoutes,
  apiTokenRoutes,
  userRoutes,
  alertRoutes,
  auditRoutes,
  agentChannelRoutes,
  agentNeedsRoutes,
  agentRestoreRoutes,
]

/** Bodies are kept as bytes for signatures and read strictly; schemas refuse unknown fields. */
function setUpBodies(app: App): void {
  app.decorateRequest('principal', undefined)
  app.decorateRequest('agentNonce', undefined)
  app.decorateRequest('rawBody')
  app.addHook('onRequest', (request, _reply, done) => {
    request.rawBody = NOTHING
    done()
  })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    request.rawBody = Buffer.from(body)
    try {
      done(null, body.length === 0 ? undefined : JSON.parse(body.toString('utf8')))
    } catch (cause) {
      done(new HoldfastError('usage', 'the body is not JSON; correct it', { cause }))
    }
  })
  app.addContentTypeParser(/^application\/(octet-stream|vnd\.holdfast\.records)$/, { parseAs: 'buffer' }, (request, body, done) => {
    request.rawBody = Buffer.from(body)
    done(null, request.rawBody)
  })
  app.setValidatorCompiler<z.ZodType>(({ schema, httpPart }) => (data) => {
    const parsed = schema.safeParse(data)
    return parsed.success
      ? { value: parsed.data }
      : { error: invalid(parsed.error, httpPart === 'querystring' ? 'query' : (httpPart ?? 'request')) }
  })
  app.setSerializerCompiler(serializerCompiler)
}

/** Deny by default: a route without access is a mistake of ours and stops the build; one with access meets `authorize` before its handler. */
function setUpAccess(app: App, context: Context): void {
  const nonces = new Nonces()
  app.addHook('onRequest', async (request) => {
    if (request.is404) return
    const access = request.routeOptions.config.access
    if (access === undefined) throw new HoldfastError('forbidden', 'nobody may use this route')
    if (access === 'public') return
    if (access === 'agent') {
      // Before the body is read: somebody unknown shall not make the server take 8 MiB.
      const headers = readSignedHeaders(request, context.clock.now())
      request.agentNonce = headers.nonce
      request.principal = await findAgent(context, headers.agentId)
      return
    }
    request.principal = await identify(context, request)
    authorize(access, request.principal)
  })
  app.addHook('preValidation', async (request) => {
    if (request.routeOptions.config.access !== 'agent') return
    const principal = request.principal
    if (principal?.kind !== 'agent') throw new HoldfastError('unauthenticated', 'this route is for agents')
    const headers: SignedHeaders = readSignedHeaders(request, context.clock.now())
    checkSignature(request, headers, principal.agent.publicKey, nonces, context.clock.now())
    authorize('agent', principal)
  })
  app.addHook(
    'onSend',
    (request: FastifyRequest, reply: FastifyReply, payload: unknown, done: (error: Error | null, payload?: unknown) => void) => {
      reply.header('x-content-type-options', 'nosniff')
      if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store')
      reply.header('holdfast-request-id', request.id)
      if (request.url.startsWith('/v1/agent/')) signAnswer(context, request, reply, payload)
      done(null, payload)
    },
  )
  app.addHook('onResponse', (request, reply, done) => {
    context.log.info('request', {
      requestId: request.id,
      method: request.method,
      route: request.routeOptions.url ?? 'none',
      status: reply.statusCode,
      ms: Math.round(reply.elapsedTime),
      actor: request.principal === undefined ? undefined : `${request.principal.kind}:${request.principal.id}`,
    })
    done()
  })
}

/** Agents believe an answer only with this signature, errors too; it binds status, body and the request's nonce. */
function signAnswer(context: Context, request: FastifyRequest, reply: FastifyReply, payload: unknown): void {
  const header = request.headers[HEADER.nonce]
  const nonce = typeof header === 'string' && /^[0-9a-f]{32}$/.test(header) ? header : ''
  const body = Buffer.isBuffer(payload) ? payload : Buffer.from(typeof payload === 'string' ? payload : '', 'utf8')
  reply.header(HEADER.serverSignature, context.keys.signing.sign(responseBytes(reply.statusCode, nonce, body)).toString('base64url'))
}

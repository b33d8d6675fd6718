// Records: the list, the search by a token that only the controller can compute from a name, and the export that a verifier needs (O4).
import { Readable } from 'node:stream'
import { z } from 'zod'
import { isoTime, parseTime } from '@holdfast/shared/clock.ts'
import { decodeFileRecords, FILE_RECORD_BYTES } from '@holdfast/shared/record.ts'
import * as c from '@holdfast/shared/protocol/common.ts'
import { recordKind } from '@holdfast/shared/protocol/records.ts'
import * as wire from '@holdfast/shared/protocol/resources.ts'
import type { App, Context } from '../context.ts'
import { boundController } from '../principal.ts'
import type { RecordFilter } from '../records/records.ts'
import type { RecordRow } from '../records/rows.ts'
import { opaque, pageInput, people, problems, wirePage, wireTime, wireTimeOrNull } from './wire.ts'

const schema = { tags: ['records'], security: people }
const filter = {
  controllerId: c.controllerId.optional(),
  agentId: c.agentId.optional(),
  runId: c.runId.optional(),
  restoreId: c.restoreId.optional(),
  kind: recordKind.optional(),
  from: c.time.optional(),
  to: c.time.optional(),
}
/** Records with bodies that are read from the database at a time while exporting: bounds memory to about 64 MiB. */
const EXPORT_STEP = 16

export function recordRoutes(app: App, { records }: Context): void {
  app.get(
    '/v1/records',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Lists records',
        querystring: c.pageQuery.extend(filter),
        response: { 200: c.page(wire.recordSummary), ...problems },
      },
    },
    async (request) => wirePage(await records.listRecords({ ...filterOf(request), ...pageInput(request.query) }), wireRecord),
  )

  app.get(
    '/v1/records/by-token/:token',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Finds the file records of one file by its token',
        description:
          "The token is computed from the file's name on the side of the controller (holdfast records NAME). A page is cut by records.",
        params: z.strictObject({ token: c.hex64 }),
        querystring: c.pageQuery,
        response: { 200: c.page(wire.fileRecordFound), ...problems },
      },
    },
    async (request) => {
      const token = Buffer.from(request.params.token, 'hex')
      const page = await records.findToken({ token, controllerId: boundController(request.principal), ...pageInput(request.query) })
      return wirePage(page, ({ record, index }) => wireFileRecord(record, index))
    },
  )

  app.get(
    '/v1/records/export',
    {
      config: { access: 'read' },
      schema: {
        ...schema,
        summary: 'Exports records with everything that a verifier needs',
        description: 'One JSON object a line (NDJSON), newest first, see the schema RecordExported: the signed bytes in base64url.',
        querystring: z.strictObject(filter),
        produces: ['application/x-ndjson'],
        response: { 200: opaque, ...problems },
      },
    },
    async (request, reply) => {
      const lines = Readable.from(exportLines(filterOf(request)), { objectMode: false, highWaterMark: 1024 * 1024 })
      return reply.type('application/x-ndjson').send(lines as unknown as string) as unknown as string
    },
  )

  async function* exportLines(of: RecordFilter): AsyncGenerator<string> {
    let after: number | undefined
    do {
      const page = await records.listRecords({ ...of, limit: EXPORT_STEP, after, withBody: true })
      for (const row of page.items) yield `${JSON.stringify(wireExport(row))}\n`
      after = page.next ?? undefined
    } while (after !== undefined)
  }
}

/** A bound principal's own controller wins over whatever it asks for. */
function filterOf(request: { principal: Parameters<typeof boundController>[0]; query: z.infer<z.ZodObject<typeof filter>> }): RecordFilter {
  const { controllerId, agentId, runId, restoreId, kind, from, to } = request.query
  return {
    controllerId: boundController(request.principal) ?? controllerId,
    agentId,
    runId,
    restoreId,
    kind,
    from: from === undefined ? undefined : parseTime(from),
    to: to === undefined ? undefined : parseTime(to),
  }
}

function wireRecord(row: RecordRow) {
  return {
    agentId: row.agentId,
    seq: row.seq,
    controllerId: row.controllerId,
    kind: row.kind,
    at: wireTime(row.at),
    receivedAt: wireTime(row.receivedAt),
    recordedAt: wireTimeOrNull(row.recordedAt),
    runId: row.runId,
    restoreId: row.restoreId,
    files: row.files,
    entryHash: row.entryHash.toString('hex'),
    header: headerOf(row),
  }
}

function headerOf(row: RecordRow): Record<string, unknown> {
  return JSON.parse(row.header.toString('utf8')) as Record<string, unknown>
}

function wireFileRecord(row: RecordRow, index: number) {
  const file = decodeFileRecords(row.body.subarray(index * FILE_RECORD_BYTES, (index + 1) * FILE_RECORD_BYTES))[0]!
  return {
    ...file,
    agentId: row.agentId,
    seq: row.seq,
    index,
    token: Buffer.from(file.token).toString('hex'),
    time: isoTime(file.time),
    header: headerOf(row),
  }
}

function wireExport(row: RecordRow): z.infer<typeof wire.recordExported> {
  return {
    agentId: row.agentId,
    seq: row.seq,
    prev: row.prev.toString('base64url'),
    sig: row.sig.toString('base64url'),
    secret: row.secret.toString('base64url'),
    header: row.header.toString('base64url'),
    body: row.body.toString('base64url'),
    entryHash: row.entryHash.toString('hex'),
    receivedAt: wireTime(row.receivedAt),
  }
}

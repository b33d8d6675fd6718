// `holdfast records NAME`: what the server's records say of one file, found by the token of its name, which only the controller can compute (O4).
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { fileRecordFound, recordExported } from '@holdfast/shared/protocol/resources.ts'
import type { Command } from 'commander'
import { createTokens } from '../../repository/snapshot.ts'
import { bytesOfText, shownBytes } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { withRepository } from '../open.ts'
import { absolutePath } from '../paths.ts'
import { type ServerApi, withServer } from '../server-api.ts'

type RecordsFlags = { readonly export?: boolean }
type Found = { readonly agentId: string; readonly seq: number; readonly runId: string | undefined }

const EXPORT_BYTES_MAX = 256 * 2 ** 20

export function define(command: Command, start: Start): void {
  command
    .description(
      'Shows when a file was transmitted and recovered, where to and on whose instruction, by the records that the agents signed.',
    )
    .argument('<name>', 'the file, by its absolute path when it was backed up')
    .option('--export', 'print the signed records themselves, one JSON object a line, for a verifier')
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast records /srv/docs/plan.odt
  $ holdfast records /srv/docs/plan.odt --export > plan.ndjson

The name stays here: the server is asked with a token that only holders of the record key can compute.`,
    )
    .action((name: string, flags: RecordsFlags) => start('records', (context) => records(context, name, flags)))
}

async function records(context: Context, name: string, flags: RecordsFlags): Promise<Outcome> {
  const path = absolutePath(context.cwd, bytesOfText(name))
  const { report } = context
  return withServer(context, (api) =>
    withRepository(context, 'write', async ({ repository }) => {
      const token = createTokens(repository.keys.recordKey).path(path)
      const found: Found[] = []
      let count = 0
      for await (const item of api.list(fileRecordFound, `/v1/records/by-token/${token}`)) {
        if (report.isClosed()) break
        count += 1
        const { agentId, seq, index, kind, outcome, time, size, bytesNew, header } = item
        if (item.token !== token)
          throw new HoldfastError('server-untrusted', 'the server answered with records of another file; nothing of it was used')
        if (flags.export === true) found.push({ agentId, seq, runId: typeof header['runId'] === 'string' ? header['runId'] : undefined })
        else report.say({ event: 'record', agentId, seq, index, kind, outcome, at: time, size, bytesNew, token, header })
      }
      if (count === 0) throw new HoldfastError('not-found', `no record speaks of ${shownBytes(path)}`)
      if (flags.export === true) await exportRecords(context, api, found)
      return { result: 'done', repository: repository.store.location, counts: { records: count } }
    }),
  )
}

/** The records that hold the file, each once, as the agents signed them. */
async function exportRecords(context: Context, api: ServerApi, found: readonly Found[]): Promise<void> {
  const wanted = new Set(found.map(({ agentId, seq }) => `${agentId} ${seq}`))
  const runs = new Map(
    found.map(({ agentId, runId }) => [`${agentId} ${runId ?? ''}`, { agentId, ...(runId === undefined ? {} : { runId }) }]),
  )
  for (const query of runs.values()) {
    const bytes = await api.getBytes(`/v1/records/export?${new URLSearchParams(query).toString()}`, EXPORT_BYTES_MAX)
    for (const line of bytes.toString('utf8').split('\n')) {
      if (line === '') continue
      const parsed = recordExported.safeParse(parseLine(line))
      if (!parsed.success)
        throw new HoldfastError('server-untrusted', "the server's export is not as the protocol says; nothing more was printed")
      if (wanted.delete(`${parsed.data.agentId} ${parsed.data.seq}`)) context.report.say({ event: 'exported-record', record: parsed.data })
    }
  }
  if (wanted.size > 0)
    throw new HoldfastError('server-untrusted', `the server's export lacks ${wanted.size} of the records that it had found`)
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch (cause) {
    throw new HoldfastError('server-untrusted', "the server's export is no NDJSON", { cause })
  }
}

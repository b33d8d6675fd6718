// Delivers the journal to the server, at least once and in order, and forgets a record only after the server's signed answer accepted it and a
// later signed poll says that it is recorded. A server that holds another version of a record stops delivery, never backups.
import { isoTime, type Clock } from '@holdfast/shared/clock.ts'
import { counted, isHoldfastError } from '@holdfast/shared/errors.ts'
import { recordsAccepted } from '@holdfast/shared/protocol/records.ts'
import type { Link } from './agent-state.ts'
import type { Alarms } from './alarms.ts'
import type { ChainEnd, Journal } from './journal.ts'
import { AGENT_ROUTES, RECORDS_CONTENT_TYPE } from './routes.ts'
import type { ServerClient } from './server-client.ts'

const TIMEOUT_MS = 120_000

/** What follows from two versions of one record, and what to do. */
export const FORKED =
  'delivery stopped, and backups go on until the journal is full. Either the state directory was put back from an older copy, or another machine works with a copy of it. Keep it as it is for whoever looks into this, and enrol this machine anew, in another state directory'

/** The link to the server as it stands; `save` keeps it durably. */
export type LinkKeeper = { readonly get: () => Link; readonly save: (change: Partial<Link>) => void }

export type Delivery = {
  /** Sends what is not accepted yet, batch by batch. Rejects as the client does; what was accepted by then stays so. */
  readonly deliver: (signal: AbortSignal) => Promise<void>
  /** What a signed poll reply says of the records. */
  readonly heard: (told: { acceptedThrough: number; acceptedHash: string; recordedThrough: number; serverTime: string }) => void
  readonly pending: () => number
}

export function delivery(options: {
  journal: Journal
  client: ServerClient
  link: LinkKeeper
  clock: Clock
  alarms: Alarms
  note: (code: string, amount?: number) => void
}): Delivery {
  const { journal, client, link, clock, alarms, note } = options
  let acceptedAt = ''
  const forked = (): boolean => link.get().fork !== undefined

  const stop = (seq: number): void => {
    if (forked()) return
    link.save({ fork: { seq, at: isoTime(clock.now()) } })
    alarms.raise('forked-journal', `the server holds another version of record ${seq} than this journal; ${FORKED}`)
    note('forked-journal', seq)
  }

  /** Takes the server's word on where it stands. True where delivery goes on from there. */
  const align = (server: ChainEnd): boolean => {
    const mine = journal.end
    if (server.seq > mine.seq) {
      // The disk lost what it had acknowledged, or the state is an old copy. Its numbers are used; go on behind them, and tell there what the server has not.
      const again = journal.adopt(server, link.get().acceptedThrough)
      note('journal-rolled-back', server.seq - mine.seq + again)
      alarms.raise(
        'journal-rolled-back',
        `the server holds ${counted(server.seq - mine.seq + again, 'record', 'records')} that this journal lost: its disk lost them, the state directory was put back from an older copy, or another machine works with a copy of it. Check the disk; a second machine has to be enrolled by itself, in a state directory of its own`,
      )
      link.save({ acceptedThrough: server.seq, acceptedHash: server.hash.toString('hex') })
      return true
    }
    const known = journal.hashAt(server.seq)
    if (known !== undefined && !known.equals(server.hash)) {
      stop(server.seq)
      return false
    }
    const { firstSeq } = journal.stats()
    if (known === undefined || server.seq + 1 < firstSeq) {
      alarms.raise(
        'records-missing',
        `the server asks for records from ${server.seq + 1}, but this journal begins at ${firstSeq}: the server was restored from an older copy. Ask its operator`,
      )
      return false
    }
    alarms.clear('records-missing')
    link.save({ acceptedThrough: server.seq, acceptedHash: server.hash.toString('hex') })
    return true
  }

  const sendBatch = async (signal: AbortSignal): Promise<boolean> => {
    const after = link.get().acceptedThrough
    const batch = journal.read(after)
    if (batch === undefined) return false
    const reply = await client.call(recordsAccepted, {
      ...AGENT_ROUTES.records,
      bytes: { contentType: RECORDS_CONTENT_TYPE, body: batch.bytes },
      timeoutMs: TIMEOUT_MS,
      signal,
    })
    if (reply === undefined) return false
    client.heardTime(reply.serverTime)
    acceptedAt = reply.serverTime
    const accepted = { seq: reply.acceptedThrough, hash: Buffer.from(reply.acceptedHash, 'hex') }
    return align(accepted) && link.get().acceptedThrough > after
  }

  return {
    pending: () => Math.max(0, journal.end.seq - link.get().acceptedThrough),
    deliver: async (signal) => {
      while (!forked() && !signal.aborted) {
        const before = link.get().acceptedThrough
        try {
          if (!(await sendBatch(signal))) return
        } catch (error) {
          if (!isHoldfastError(error) || error.fields['status'] !== 409) throw error
          const { expectedSeq, expectedHash } = error.fields
          if (typeof expectedSeq !== 'number' || expectedSeq < 1 || typeof expectedHash !== 'string') {
            stop(before + 1)
            return
          }
          // Expecting what was just sent, and not taking it, is a fork by whatever name.
          if (expectedSeq === before + 1 && journal.hashAt(before)?.toString('hex') === expectedHash) {
            stop(expectedSeq)
            return
          }
          if (!align({ seq: expectedSeq - 1, hash: Buffer.from(expectedHash, 'hex') })) return
        }
      }
    },
    heard: ({ acceptedThrough, acceptedHash, recordedThrough, serverTime }) => {
      // Kept whatever follows, or the server would tell it again at once.
      if (recordedThrough !== link.get().recordedThrough) link.save({ recordedThrough })
      if (forked()) return
      const { acceptedThrough: known, acceptedHash: knownHash } = link.get()
      // An answer made before the last delivery was accepted knows less than is known here. Before the first record there is no hash to compare.
      const isNews = serverTime > acceptedAt && acceptedThrough > 0 && (acceptedThrough !== known || acceptedHash !== knownHash)
      if (isNews && !align({ seq: acceptedThrough, hash: Buffer.from(acceptedHash, 'hex') })) return
      journal.forget(Math.min(recordedThrough, link.get().acceptedThrough))
    },
  }
}

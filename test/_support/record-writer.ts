// A process that accepts records as fast as it can and prints each sequence number once it is durable, until somebody kills it.
// Arguments: database path, agent id, seed of the agent's key in hex.
import { systemRandom } from '@holdfast/shared/random.ts'
import { signRecord } from '@holdfast/shared/record.ts'
import { signingKey } from '@holdfast/shared/signing.ts'
import { openSqliteRecords } from 'holdfast-server/records/sqlite-records.ts'
import { transmissionHeader } from './record-headers.ts'

const [path, agentId, seed] = process.argv.slice(2) as [string, string, string]
const records = await openSqliteRecords(path)
const key = signingKey(Buffer.from(seed, 'hex'))
const agent = await records.get({ table: 'agents', id: agentId })
let { lastSeq, lastHash } = agent!
for (;;) {
  const secret = systemRandom.bytes(32)
  const header = transmissionHeader(Buffer.alloc(0), secret, { agentId })
  const record = signRecord({ header, body: Buffer.alloc(0), seq: lastSeq + 1, prev: lastHash, secret, key })
  await records.acceptRecords({ agentId, at: 1, records: [{ ...record, entryHash: record.hash, opened: header }] })
  lastSeq = record.seq
  lastHash = record.hash
  process.stdout.write(`${record.seq}\n`)
}

// The root of a domain from the controller's directory, for tests that must know what nobody else may know.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { unlockRoot } from '../../../agent/keys/key-object.ts'
import { PASSPHRASE } from './installation.ts'

export async function rootOfDomain(directory: string): Promise<{ root: Buffer; domainId: Buffer }> {
  const { domainId } = JSON.parse(readFileSync(join(directory, 'domain.json'), 'utf8')) as { domainId: string }
  const keys = readdirSync(join(directory, 'keys')).map((name) => ({ name, bytes: readFileSync(join(directory, 'keys', name)) }))
  return unlockRoot(keys, { passphrase: PASSPHRASE }, Buffer.from(domainId, 'hex'))
}

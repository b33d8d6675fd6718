// Where this machine remembers which packs of a domain it has read (agent/check/read-log.ts): beside the state of its backups.
import { openStateDirectory } from '../backup/state-lock.ts'
import { openReadLog, type ReadLog } from '../check/read-log.ts'
import { posixFileSystem } from '../file-system/posix-file-system.ts'
import type { Context } from './context.ts'

/** Gives the record to `work`, and closes its directory whatever happens. */
export async function withReadLog<T>(context: Context, domainId: Buffer, work: (log: ReadLog) => Promise<T>): Promise<T> {
  const path = `${context.settings.stateHome}/holdfast/${domainId.toString('hex')}/check`
  const directory = openStateDirectory(posixFileSystem, Buffer.from(path))
  try {
    return await work(openReadLog(posixFileSystem, directory))
  } finally {
    posixFileSystem.close(directory)
  }
}

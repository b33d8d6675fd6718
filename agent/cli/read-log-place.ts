// Where this machine remembers which packs of a repository it has read (agent/check/read-log.ts): beside the state of its backups. By domain and place: a
// copy of a repository has the same packs in other storage, and none of them was read there.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { openStateDirectory } from '../backup/state-lock.ts'
import { memoryReadLog, openReadLog, type ReadLog } from '../check/read-log.ts'
import type { Descriptor } from '../file-system/file-system.ts'
import { posixFileSystem } from '../file-system/posix-file-system.ts'
import type { Repository } from '../repository/repository.ts'
import type { Context } from './context.ts'
import { hashOfLocation } from './paths.ts'

/** Gives the record to `work`, and closes its directory whatever happens. Where there can be none, the work is done without. */
export async function withReadLog<T>(
  context: Context,
  { description, store }: Pick<Repository, 'description' | 'store'>,
  work: (log: ReadLog) => Promise<T>,
): Promise<T> {
  const path = `${context.settings.stateHome}/holdfast/${description.domainId.toString('hex')}/check/${hashOfLocation(store.location)}`
  let directory: Descriptor
  try {
    directory = openStateDirectory(posixFileSystem, Buffer.from(path))
  } catch (error) {
    if (!isHoldfastError(error, 'local-disk')) throw error
    sayForgotten(context)
    return work(memoryReadLog())
  }
  try {
    const log = openReadLog(posixFileSystem, directory)
    return await work({
      ...log,
      save: () => {
        const saved = log.save()
        if (!saved) sayForgotten(context)
        return saved
      },
    })
  } finally {
    posixFileSystem.close(directory)
  }
}

function sayForgotten({ report, settings }: Context): void {
  report.say({
    event: 'notice',
    level: 'warning',
    message: `what is read is not remembered: ${settings.stateHome} cannot be used (XDG_STATE_HOME names another place). A rotation then goes by the calendar alone`,
  })
}

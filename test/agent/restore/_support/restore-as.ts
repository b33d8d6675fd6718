// Run as a process of its own by root: gives up every right, as user and group `id`, and restores a snapshot from a directory store into `target`,
// with `never` as it is asked for. Prints what became of it as one line of JSON. Everything is loaded before the rights go, so that the checkout need not be readable for others.
import { rootKeys } from '../../../../agent/keys/domain.ts'
import { openRepository } from '../../../../agent/repository/repository.ts'
import { restoreSnapshot } from '../../../../agent/restore/restore.ts'
import { openDirectoryStore } from '@holdfast/shared/store/directory-store.ts'

const [location = '', root = '', domain = '', target = '', id = '65534', overwrite] = process.argv.slice(2)
const store = await openDirectoryStore(location)
process.setgroups?.([])
process.setgid?.(Number(id))
process.setuid?.(Number(id))
const keys = rootKeys({ root: Buffer.from(root, 'hex'), domainId: Buffer.from(domain, 'hex') })
const repository = await openRepository({ store, keys: keys.write.structure })
const { view } = await repository.loadView()
const { snapshots } = await repository.listSnapshots()
const snapshot = snapshots.at(-1)
if (snapshot === undefined) throw new Error('there is no snapshot')
const report = await restoreSnapshot({
  ...{ repository, view, snapshot, keys: keys.read, target: Buffer.from(target), workers: 0 },
  overwrite: overwrite === 'never' ? overwrite : undefined,
})
const problems = report.problems.map(({ path, code, errno }) => [path.toString(), code, errno])
process.stdout.write(`${JSON.stringify({ uid: process.getuid?.(), ...report, problems })}\n`)

// The verbs of the command line, in the order of help. What a verb's module defines is loaded only when the verb is called.
import type { Command } from 'commander'
import type { Start } from './context.ts'

export type CommandModule = { readonly define: (command: Command, start: Start) => void }
export type Verb = {
  readonly name: string
  readonly summary: string
  readonly hidden?: boolean
  readonly load: () => Promise<CommandModule>
}

export const VERBS: readonly Verb[] = [
  { name: 'init', summary: 'make a repository', load: () => import('./commands/init.ts') },
  { name: 'backup', summary: 'back up files and directories', load: () => import('./commands/backup.ts') },
  { name: 'snapshots', summary: 'list snapshots', load: () => import('./commands/snapshots.ts') },
  { name: 'ls', summary: 'list what a snapshot holds', load: () => import('./commands/ls.ts') },
  { name: 'restore', summary: 'restore a snapshot, or a part of it', load: () => import('./commands/restore.ts') },
  { name: 'dump', summary: 'write one file of a snapshot to standard output', load: () => import('./commands/dump.ts') },
  { name: 'forget', summary: 'let snapshots no longer count, by rules or by name', load: () => import('./commands/forget.ts') },
  { name: 'prune', summary: 'free the space of what is forgotten', load: () => import('./commands/prune.ts') },
  { name: 'undelete', summary: 'take forgotten snapshots back', load: () => import('./commands/undelete.ts') },
  { name: 'check', summary: 'look whether the repository is sound', load: () => import('./commands/check.ts') },
  { name: 'repair', summary: 'make the index true again, and say what is lost', load: () => import('./commands/repair.ts') },
  {
    name: 'drill',
    summary: 'restore a share to a scratch place, compare it, keep the evidence',
    load: () => import('./commands/drill.ts'),
  },
  { name: 'key', summary: 'passphrases and recovery codes: add, remove, list, passwd', load: () => import('./commands/key.ts') },
  { name: 'domain', summary: "the controller's side of enrolment: roster and bundles", load: () => import('./commands/domain.ts') },
  { name: 'request', summary: 'ask the control server for a restore', load: () => import('./commands/request.ts') },
  { name: 'grant', summary: 'let a requested restore happen', load: () => import('./commands/grant.ts') },
  { name: 'records', summary: 'what the records say of a file', load: () => import('./commands/records.ts') },
  { name: 'doctor', summary: 'try out the store and say what it can be trusted with', load: () => import('./commands/doctor.ts') },
  { name: 'enroll', summary: 'enrol this appliance', load: () => import('./commands/enroll.ts') },
  { name: 'run', summary: 'run the daemon of an enrolled appliance', load: () => import('./commands/run.ts') },
  { name: 'status', summary: 'how this appliance stands', load: () => import('./commands/status.ts') },
]

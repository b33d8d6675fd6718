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
  { name: 'restore', summary: 'restore a snapshot, or a part of it', load: () => import('./commands/restore.ts') },
  { name: 'key', summary: 'passphrases and recovery codes: add, remove, list, passwd', load: () => import('./commands/key.ts') },
  { name: 'doctor', summary: 'try out the store and say what it can be trusted with', load: () => import('./commands/doctor.ts') },
]

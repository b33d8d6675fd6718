// Folders and options for tests of restoring.
import { lstatSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { RestoreOptions } from '../../agent/restore/restore.ts'
import type { BuiltRepository } from './repository-fixture.ts'

export type Folders = { readonly make: () => string; readonly removeAll: () => void }

/** Fresh folders that are removed together. */
export function folders(): Folders {
  const made: string[] = []
  return {
    make: () => {
      const folder = mkdtempSync(join(tmpdir(), 'holdfast-restore-'))
      made.push(folder)
      return folder
    },
    removeAll: () => {
      for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** What a restore of everything into `target` is called with; in this thread, not synced. */
export function optionsFor(built: BuiltRepository, target: string, more: Partial<RestoreOptions> = {}): RestoreOptions {
  const { repository, view, snapshot } = built
  return { repository, view, snapshot, keys: built.keys.read, target: Buffer.from(target), workers: 0, durable: false, ...more }
}

/** All names below a folder, sorted, directories with a slash; links are not followed. */
export function namesIn(folder: string): string[] {
  const found: string[] = []
  const walk = (at: string, prefix: string): void => {
    for (const name of readdirSync(at)) {
      const isDirectory = lstatSync(join(at, name)).isDirectory()
      found.push(`${prefix}${name}${isDirectory ? '/' : ''}`)
      if (isDirectory) walk(join(at, name), `${prefix}${name}/`)
    }
  }
  walk(folder, '')
  return found.sort()
}

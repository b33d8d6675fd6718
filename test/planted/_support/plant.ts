// How a bug is planted: as modules of the product are loaded, one exact text of a file is replaced by another, before Node takes the types away.
import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(dirname(import.meta.dirname)))

/** One replacement. `from` stands exactly once in the file. */
export type Change = { readonly file: string; readonly from: string; readonly to: string }

/** The source with the change in it. Throws where the text is not there exactly once: the plant is out of date then. */
export function changed(source: string, { file, from, to }: Change): string {
  const parts = source.split(from)
  if (parts.length !== 2) throw new Error(`the plant in ${file} is out of date: its text is there ${parts.length - 1} times: ${from}`)
  return parts.join(to)
}

/** Throws where changes do not fit the product as it stands. */
export function requireFits(changes: readonly Change[]): void {
  for (const [file, own] of byFile(changes)) own.reduce(changed, readFileSync(join(root, file), 'utf8'))
}

/** From now on, in this thread, modules are loaded with the changes in them. Gives a function that throws where a changed file was never loaded. */
export function plant(changes: readonly Change[]): () => void {
  const wanted = byFile(changes)
  const loaded = new Set<string>()
  registerHooks({
    load: (url, context, nextLoad) => {
      const module = nextLoad(url, context)
      if (!url.startsWith('file:') || module.source === undefined || module.source === null) return module
      const file = relative(root, fileURLToPath(url))
      const own = wanted.get(file)
      if (own === undefined) return module
      loaded.add(file)
      const source = typeof module.source === 'string' ? module.source : Buffer.from(module.source as Uint8Array).toString('utf8')
      return { ...module, source: own.reduce(changed, source) }
    },
  })
  return () => {
    for (const file of wanted.keys()) if (!loaded.has(file)) throw new Error(`the plant in ${file} was never loaded`)
  }
}

function byFile(changes: readonly Change[]): Map<string, Change[]> {
  const files = new Map<string, Change[]>()
  for (const change of changes) files.set(change.file, [...(files.get(change.file) ?? []), change])
  return files
}

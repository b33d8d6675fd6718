// The project's own files as the tidiness tests see them: what each imports and which globals it uses, read from the syntax tree,
// so that a word in a comment or a string is never mistaken for code.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { parseAst } from 'vitest/node'

export const root = dirname(dirname(import.meta.dirname))
/** Folders that hold nothing of the project's own writing; what git does not keep is not looked at either. */
const NOT_OURS = new Set(['node_modules', '.git', 'dist', 'build', '.holdfast-demo', 'coverage'])
const TEXT = /\.(?:ts|mjs|js|sh|md|json|css|html|yaml|yml)$|^bin\/[\w-]+$|\/bin\/[\w-]+$|^\.ci\/run$|^LICENSE$|\/LICENSE$|^\.[\w.]+$/

/** Stands among a file's names where it uses the type that switches checking off. */
export const ANY = ': any'

type Syntax = { readonly type: string; readonly [key: string]: unknown }

export type Facts = {
  /** Every module named by import, export, `import()`, `require()` and `new URL(…, import.meta.url)`, with the names taken from it. */
  readonly imports: readonly { readonly from: string; readonly names: readonly string[]; readonly typeOnly: boolean }[]
  /** Names used as values that are no property: `Date`, `setTimeout`. */
  readonly names: ReadonlySet<string>
  /** Properties of names: `process.env`, `Date.now`. */
  readonly members: ReadonlySet<string>
}

/** Paths of the project's text files below `under`, relative to its root, in order. */
export function textFiles(under = ''): string[] {
  const found: string[] = []
  for (const entry of readdirSync(join(root, under), { withFileTypes: true })) {
    const path = posix.join(under, entry.name)
    if (entry.isDirectory() && !NOT_OURS.has(entry.name)) found.push(...textFiles(path))
    else if (entry.isFile() && TEXT.test(path)) found.push(path)
  }
  return found.toSorted()
}

export function readText(path: string): string {
  return readFileSync(join(root, path), 'utf8')
}

const known = new Map<string, Facts>()

export function factsOf(path: string): Facts {
  const before = known.get(path)
  if (before !== undefined) return before
  const facts = {
    imports: [] as { from: string; names: string[]; typeOnly: boolean }[],
    names: new Set<string>(),
    members: new Set<string>(),
  }
  collect(parse(path), facts)
  known.set(path, facts)
  return facts
}

function parse(path: string): Syntax {
  try {
    return parseAst(readText(path), { lang: path.endsWith('.ts') ? 'ts' : 'js' }) as unknown as Syntax
  } catch (error) {
    throw new Error(`${path} cannot be parsed`, { cause: error })
  }
}

type Collected = { imports: { from: string; names: string[]; typeOnly: boolean }[]; names: Set<string>; members: Set<string> }

function collect(node: Syntax, into: Collected): void {
  if (node.type === 'TSTypeQuery') return
  if (node.type === 'TSAnyKeyword') into.names.add(ANY)
  if (node.type === 'Identifier') into.names.add(String(node['name']))
  takeImport(node, into)
  const quiet = unusedPart(node)
  if (node.type === 'MemberExpression' && node['computed'] !== true) {
    const [object, property] = [node['object'] as Syntax, node['property'] as Syntax]
    if (object.type === 'Identifier') into.members.add(`${String(object['name'])}.${String(property['name'])}`)
  }
  for (const [key, value] of Object.entries(node)) {
    if (key === quiet) continue
    for (const child of Array.isArray(value) ? (value as unknown[]) : [value]) if (isSyntax(child)) collect(child, into)
  }
}

/** The child that is a property's name and no use of a variable. */
function unusedPart(node: Syntax): string | undefined {
  if (node['computed'] === true) return undefined
  if (node.type === 'MemberExpression') return 'property'
  if (node.type === 'TSTypeReference') return 'typeName'
  if (['Property', 'PropertyDefinition', 'MethodDefinition', 'TSPropertySignature', 'TSMethodSignature'].includes(node.type)) return 'key'
  return node.type === 'ImportDeclaration' ? 'specifiers' : undefined
}

function takeImport(node: Syntax, into: Collected): void {
  const literal = (value: unknown): string | undefined =>
    isSyntax(value) && value.type === 'Literal' && typeof value['value'] === 'string' ? value['value'] : undefined
  const add = (from: string | undefined, names: string[] = [], typeOnly = false): void => {
    if (from !== undefined) into.imports.push({ from, names, typeOnly })
  }
  switch (node.type) {
    case 'ImportDeclaration': {
      const names = (node['specifiers'] as Syntax[]).map((specifier) => {
        const imported = specifier['imported'] as Syntax | undefined
        return imported === undefined ? '*' : String(imported['name'])
      })
      return add(literal(node['source']), names, node['importKind'] === 'type')
    }
    case 'ExportNamedDeclaration':
    case 'ExportAllDeclaration':
      return add(literal(node['source']), [], node['exportKind'] === 'type')
    case 'TSImportType':
      return add(literal(node['source']), [], true)
    case 'ImportExpression':
      return add(literal(node['source']))
    case 'CallExpression':
      return (node['callee'] as Syntax)['name'] === 'require' ? add(literal((node['arguments'] as unknown[])[0])) : undefined
    case 'NewExpression': {
      const [first, second] = node['arguments'] as Syntax[]
      const besideThis = second?.type === 'MemberExpression' && (second['object'] as Syntax).type === 'MetaProperty'
      return (node['callee'] as Syntax)['name'] === 'URL' && besideThis ? add(literal(first)) : undefined
    }
  }
}

function isSyntax(value: unknown): value is Syntax {
  return typeof value === 'object' && value !== null && typeof (value as Syntax).type === 'string'
}

/** The project's file that a module name means, e.g. `shared/clock.ts`; undefined for packages and Node's own modules. */
export function ownFile(importer: string, from: string): string | undefined {
  if (from.startsWith('.')) return posix.join(posix.dirname(importer), from)
  for (const [prefix, folder] of [
    ['@holdfast/shared/', 'shared/'],
    ['holdfast-server/', 'server/'],
    ['holdfast/', 'agent/'],
  ] as const)
    if (from.startsWith(prefix)) return folder + from.slice(prefix.length)
  return from === 'chunking-stream' ? 'shared/chunking-stream/index.ts' : undefined
}

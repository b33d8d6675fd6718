// Counts branches: the modules of the product are given counters as they are loaded, before Node takes their types away, so that what runs is the
// TypeScript as it stands.
import { registerHooks } from 'node:module'
import { dirname, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAst } from 'vitest/node'
import { endModule, nextBranch } from './counters.ts'

const root = dirname(dirname(dirname(import.meta.dirname)))
const PRODUCT = /^(?:agent|server|shared)\/(?!chunking-stream\/).*\.ts$|^test\/fuzz\/_support\/planted-parser\.ts$/
const NAME = '$branches'
const countersUrl = new URL('counters.ts', import.meta.url).href

type Syntax = { readonly type: string; readonly start: number; readonly end: number; readonly [key: string]: unknown }
type Insertion = { readonly at: number; readonly text: string }

/** From now on, in this thread, modules of the product are given counters. */
export function countBranches(): void {
  registerHooks({
    load: (url, context, nextLoad) => {
      const loaded = nextLoad(url, context)
      if (!url.startsWith('file:') || loaded.source === undefined || loaded.source === null) return loaded
      const path = relative(root, fileURLToPath(url))
      if (!PRODUCT.test(path)) return loaded
      const source = typeof loaded.source === 'string' ? loaded.source : Buffer.from(loaded.source as Uint8Array).toString('utf8')
      return { ...loaded, source: instrumented(source, path) }
    },
  })
}

/** The source with a counter in every function, branch, loop, and operand that may not be evaluated. */
export function instrumented(source: string, path: string): string {
  const insertions: Insertion[] = []
  const words = new Set<string>()
  const counter = (): string => `${NAME}[${nextBranch()}]++`
  const inBlock = (node: Syntax): void => void insertions.push({ at: node.start + 1, text: `${counter()};` })
  const insert = (at: number, text: string): void => void insertions.push({ at, text })

  const around = (node: Syntax, before: string, after: string): void => {
    insert(node.start, before)
    walk(node)
    insert(node.end, after)
  }
  const statement = (node: Syntax): void => {
    if (node.type === 'BlockStatement') {
      inBlock(node)
      walk(node)
    } else around(node, `{${counter()};`, '}')
  }
  const expression = (node: Syntax): void => around(node, `(${counter()},(`, '))')

  const walk = (node: Syntax): void => {
    const taken = new Set<unknown>()
    const take = (child: unknown, how: (child: Syntax) => void): void => {
      if (!isSyntax(child)) return
      taken.add(child)
      how(child)
    }
    switch (node.type) {
      case 'FunctionDeclaration':
      case 'FunctionExpression':
      case 'ArrowFunctionExpression':
        for (const param of node['params'] as unknown[]) take(param, walk)
        take(node['body'], (body) => {
          if (body.type === 'BlockStatement' || body.type === 'FunctionBody') {
            inBlock(body)
            walk(body)
          } else expression(body)
        })
        return
      case 'IfStatement':
        take(node['test'], walk)
        take(node['consequent'], statement)
        if (isSyntax(node['alternate'])) take(node['alternate'], statement)
        else insert(node.end, ` else {${counter()}}`)
        return
      case 'ForStatement':
      case 'ForInStatement':
      case 'ForOfStatement':
      case 'WhileStatement':
      case 'DoWhileStatement':
        for (const key of ['init', 'test', 'update', 'left', 'right']) take(node[key], walk)
        take(node['body'], statement)
        return
      case 'ConditionalExpression':
        take(node['test'], walk)
        take(node['consequent'], expression)
        take(node['alternate'], expression)
        return
      case 'LogicalExpression':
        take(node['left'], walk)
        take(node['right'], expression)
        return
      case 'SwitchCase': {
        take(node['test'], walk)
        const [first] = node['consequent'] as Syntax[]
        if (first !== undefined) insert(first.start, `${counter()};`)
        for (const child of node['consequent'] as unknown[]) take(child, walk)
        return
      }
      case 'CatchClause':
        take(node['body'], statement)
        return
      case 'Literal': {
        const value = node['value']
        if (typeof value === 'string' && value.length > 0 && value.length <= 40) words.add(value)
        return
      }
      case 'ImportDeclaration':
        return
    }
    for (const [key, value] of Object.entries(node)) {
      if (key === 'typeAnnotation' || key === 'returnType' || key === 'typeParameters' || key === 'typeArguments') continue
      for (const child of Array.isArray(value) ? (value as unknown[]) : [value]) if (isSyntax(child) && !taken.has(child)) walk(child)
    }
  }
  walk(parseAst(source, { lang: 'ts' }) as unknown as Syntax)

  let text = ''
  let at = 0
  // Stable: what is around stands outside of what is within, as it was met.
  for (const insertion of insertions.toSorted((a, b) => a.at - b.at)) {
    text += source.slice(at, insertion.at) + insertion.text
    at = insertion.at
  }
  text += source.slice(at)
  endModule(path, [...words])
  // On the first line, so that the lines in stacks stay those of the source.
  return `import { counters as ${NAME} } from '${countersUrl}';${text}`
}

function isSyntax(value: unknown): value is Syntax {
  return typeof value === 'object' && value !== null && typeof (value as Syntax).type === 'string'
}

// The house rules as a test: directions of imports, seams with one module each, sizes, words, packages. A rule's exceptions stand
// here with their reason.
import { existsSync } from 'node:fs'
import { join, posix } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ANY, factsOf, ownFile, readText, root, textFiles } from './_support/source-files.ts'

const files = textFiles()
const code = files.filter((path) => /\.(?:ts|mjs)$/.test(path) && !path.startsWith('shared/chunking-stream/assembly/'))
/** What customers run; the demonstration, benchmarks and tests may do what they need. */
const product = code.filter((path) => /^(?:agent|server|shared)\//.test(path) && !/^shared\/chunking-stream\/(?:bench|tools)\//.test(path))
const workspaceOf = (path: string): string => (path.startsWith('shared/chunking-stream/') ? 'chunking-stream' : (path.split('/')[0] ?? ''))

describe('imports', () => {
  const MAY_IMPORT: Record<string, readonly string[]> = {
    'chunking-stream': [],
    shared: ['chunking-stream'],
    agent: ['shared', 'chunking-stream'],
    server: ['shared'],
    reader: [],
    demo: ['agent', 'server', 'shared', 'chunking-stream', 'reader', 'test', 'bench'],
    bench: ['agent', 'server', 'shared', 'chunking-stream', 'reader', 'test', 'demo'],
    test: ['agent', 'server', 'shared', 'chunking-stream', 'reader', 'demo', 'bench'],
  }

  test('point one way: agent and server to shared, never to each other, and nothing of the product to test, bench or demo', () => {
    const wrong: string[] = []
    for (const path of code) {
      const from = workspaceOf(path)
      for (const { from: name } of factsOf(path).imports) {
        const target = ownFile(path, name)
        const to = target === undefined ? from : workspaceOf(target)
        if (to !== from && to !== 'vitest.config.ts' && !(MAY_IMPORT[from] ?? []).includes(to)) wrong.push(`${path} imports ${name}`)
      }
    }
    expect(wrong).toEqual([])
  })

  test('cross a workspace of the product by its package name, and name files that exist', () => {
    const wrong: string[] = []
    for (const path of product)
      for (const { from } of factsOf(path).imports) {
        const target = ownFile(path, from)
        if (target === undefined) continue
        if (from.startsWith('.') && workspaceOf(target) !== workspaceOf(path)) wrong.push(`${path} reaches across by ${from}`)
        if (!existsSync(join(root, target))) wrong.push(`${path} imports ${from}, which is not there`)
      }
    expect(wrong).toEqual([])
  })

  test('of the reader and of chunking-stream name nothing but Node', () => {
    const alone = code.filter((path) => path.startsWith('reader/') || (workspaceOf(path) === 'chunking-stream' && product.includes(path)))
    const foreign = alone.flatMap((path) =>
      factsOf(path)
        .imports.filter(({ from }) => !from.startsWith('node:') && !(from.startsWith('.') && workspaceOf(path) === 'chunking-stream'))
        .map(({ from }) => `${path} imports ${from}`),
    )
    expect(foreign).toEqual([])
  })
})

describe('one module stands between the product and', () => {
  test.each([
    { what: 'native calls', packages: /^koffi$/, modules: /^agent\/file-system\/libc\.ts$/ },
    { what: 'the S3 client', packages: /^@(?:aws-sdk|smithy|aws-crypto)\//, modules: /^shared\/store\/s3-client\.ts$/ },
    { what: 'Redis', packages: /^(?:bullmq|ioredis)$/, modules: /^server\/queues\/bullmq-queue\.ts$/ },
    { what: 'BLAKE3', packages: /^(?:@napi-rs\/blake-hash|blake3.*)$/, modules: /^agent\/repository\/blake3\.ts$/ },
    { what: 'SQLite', packages: /^node:sqlite$/, modules: /^server\/records\/sqlite\/[\w-]+\.ts$/ },
    { what: 'the HTTP client', packages: /^undici$/, modules: /^agent\/daemon\/http-transport\.ts$/ },
    { what: 'ignore patterns', packages: /^ignore$/, modules: /^agent\/backup\/excludes\.ts$/ },
  ])('$what', ({ packages, modules }) => {
    const importers = product.filter((path) => factsOf(path).imports.some(({ from }) => packages.test(from)))
    expect(importers.filter((path) => !modules.test(path))).toEqual([])
    expect(importers, 'the rule is about something').not.toEqual([])
  })

  test.each([
    {
      what: 'the clock',
      use: /^(?:Date|performance|setTimeout|setInterval|process\.hrtime|AbortSignal\.timeout|node:timers(?:\/promises)?|node:perf_hooks)$/,
      modules: ['shared/clock.ts'],
    },
    {
      what: 'randomness',
      use: /^(?:Math\.random|random(?:Bytes|UUID|Int|Fill|FillSync)|getRandomValues|webcrypto|generateKey(?:Pair)?(?:Sync)?|crypto\.\w*random\w*)$/i,
      modules: ['shared/random.ts'],
    },
    {
      what: 'the environment',
      use: /^process\.env$/,
      modules: ['agent/main.ts', 'agent/config.ts', 'server/main.ts', 'server/config.ts'],
    },
    { what: 'the end of the process', use: /^process\.exit$/, modules: ['agent/main.ts', 'server/main.ts'] },
  ])('$what', ({ use, modules }) => {
    const users = product.filter((path) => !modules.includes(path) && uses(path, use).length > 0)
    expect(users.map((path) => `${path}: ${uses(path, use).join(', ')}`)).toEqual([])
  })
})

describe('every source file', () => {
  test('is at most 500 lines long', () => {
    // The reader is kept in a safe and must be read there as a whole.
    const limitOf = (path: string): number => (path === 'reader/holdfast-reader.mjs' ? 399 : 500)
    const long = code.filter((path) => lines(path) > limitOf(path)).map((path) => `${path}: ${lines(path)}`)
    expect(long).toEqual([])
  })

  test('begins by saying what it is', () => {
    expect(code.filter((path) => !/^(?:#!.*\n)?(?:\/\/|\/\*\*?) ?\S/.test(readText(path)))).toEqual([])
    const scripts = files.filter((path) => readText(path).startsWith('#!') && !/\.(?:ts|mjs)$/.test(path))
    expect(scripts.filter((path) => !/^#!.*\n# \S/.test(readText(path)))).toEqual([])
  })

  test('has a name in kebab case that is a noun of the domain', () => {
    const named = code.filter((path) => path !== 'vitest.config.ts')
    const wrong = named.filter(
      (path) => !/^_?[a-z0-9]+(?:-[a-z0-9]+)*(?:\.test|\.bench|\.browser)?\.(?:ts|mjs)$/.test(path.split('/').at(-1) ?? ''),
    )
    expect(wrong).toEqual([])
    expect(named.filter((path) => /(?:^|[/-])(?:utils?|helpers?|managers?|misc|stuff)\.ts$/.test(path))).toEqual([])
  })

  test('leaves nothing for later and switches no check off', () => {
    const marks = /\b(?:TODO|FIXME|XXX)\b|@ts-(?:ignore|nocheck)/
    const read = files.filter((path) => path !== 'package-lock.json' && path !== 'test/tidy.test.ts')
    expect(read.filter((path) => marks.test(readText(path)))).toEqual([])
    const expected = /@ts-expect-error/
    expect(product.filter((path) => expected.test(readText(path)))).toEqual([])
  })

  test('keeps its types', () => {
    expect(code.filter((path) => factsOf(path).names.has(ANY))).toEqual([])
  })
})

describe('tests', () => {
  test('all run: none is left out, alone or for later; one that needs a right or a program says which', () => {
    const off = /\b(?:test|it|describe|suite|bench)(?:\.\w+)*\.(?:only|skip|todo|fails)\b|\bx(?:it|describe|test)\(/
    expect(code.filter((path) => path.startsWith('test/') && path !== 'test/tidy.test.ts' && off.test(readText(path)))).toEqual([])
  })
})

describe('words', () => {
  const prose = files.filter((path) => path !== 'package-lock.json' && path !== 'test/tidy.test.ts' && !path.startsWith('test/vectors/'))

  test('are the same everywhere', () => {
    const ONE_WORD: readonly (readonly [RegExp, string])[] = [
      [/\btenan(?:t|cy)/i, 'controller, or domain'],
      [/\bbackup[ -]sets?\b/i, 'snapshot'],
      [/\bde-?dupe\b/i, 'dedup'],
      [/\b(?:white|black)list/i, 'allow-list, refuse'],
      [/\bdata controllers?\b/i, 'controller'],
      [/\bmaster key\b/i, 'domain root'],
      [/\bbackup chain\b/i, 'series'],
      [/\brestore points?\b/i, 'snapshot'],
    ]
    const wrong = prose.flatMap((path) =>
      ONE_WORD.filter(([word]) => word.test(readText(path))).map(
        ([word, instead]) => `${path}: ${word.exec(readText(path))?.[0]}; say ${instead}`,
      ),
    )
    expect(wrong).toEqual([])
  })

  test('name no machine: no path of one, no host of a registry', () => {
    const machine = /(?<![\w.$}-])\/(?:work|root)\/|\bregistry\.npm|\bdeb\.debian\.org|\/tmp\/bash/
    expect(prose.filter((path) => machine.test(readText(path)))).toEqual([])
  })
})

test('documents name files that exist', () => {
  const wrong: string[] = []
  for (const path of files.filter((name) => name.endsWith('.md'))) {
    const text = readText(path)
    const linked = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, target]) => posix.join(posix.dirname(path), target ?? ''))
    const named = [...text.matchAll(/`((?:agent|server|shared|test|reader|demo|bench|bin|decisions)\/[\w./-]*)`/g)].map(
      ([, target]) => target ?? '',
    )
    const isThere = (target: string): boolean => existsSync(join(root, target)) || existsSync(join(root, posix.dirname(path), target))
    wrong.push(...[...linked, ...named].filter((target) => !isThere(target)).map((target) => `${path}: ${target}`))
  }
  expect(wrong).toEqual([])
})

describe('packages', () => {
  const manifests = files.filter((path) => path === 'package.json' || path.endsWith('/package.json'))
  type Manifest = Record<string, Record<string, string> | undefined>

  test('are pinned to one version each, and run no script when they are installed', () => {
    const loose = manifests.flatMap((path) => {
      const manifest = JSON.parse(readText(path)) as Manifest
      const kinds = ['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies', 'overrides']
      const versions = kinds.flatMap((kind) => Object.entries(manifest[kind] ?? {}))
      const scripts = Object.keys(manifest['scripts'] ?? {}).filter((name) => /^(?:pre|post)?install$|^prepare$/.test(name))
      return [...versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version)).map(([name]) => `${path}: ${name}`), ...scripts]
    })
    expect(loose).toEqual([])
    expect(readText('.npmrc')).toContain('ignore-scripts=true')
  })

  test('are locked by hash, and the lock names no host', () => {
    type Locked = { readonly resolved?: string; readonly integrity?: string; readonly link?: boolean; readonly version?: string }
    const { packages } = JSON.parse(readText('package-lock.json')) as { packages: Record<string, Locked> }
    const wrong = Object.entries(packages).filter(
      ([name, entry]) =>
        /^\w+:/.test(entry.resolved ?? '') || (name.includes('node_modules/') && entry.link !== true && entry.integrity === undefined),
    )
    expect(wrong.map(([name]) => name)).toEqual([])
  })
})

/** What a file uses of `pattern`: globals, their properties, Node's modules and the names taken from them. */
function uses(path: string, pattern: RegExp): string[] {
  const { names, members, imports } = factsOf(path)
  const fromNode = imports.filter(({ from }) => from.startsWith('node:')).flatMap(({ from, names: taken }) => [from, ...taken])
  return [...new Set([...names, ...members, ...fromNode])].filter((name) => pattern.test(name))
}

function lines(path: string): number {
  return readText(path).split('\n').length - 1
}

// A real Chromium for tests, fetched with apt where it is missing (printed first), that notes every request and error of its pages.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { chromium } from 'playwright-core'
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core'

const run = promisify(execFile)
const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const INSTALL_LOCK = join(tmpdir(), 'holdfast-chromium-install.lock')

/** Starts the browser; rejects where there is none to be had. */
export async function startBrowser(): Promise<Browser> {
  const executablePath = PLACES.find((path) => existsSync(path)) ?? (await install())
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
}

async function install(): Promise<string> {
  if (process.getuid?.() !== 0) throw new Error('no Chromium: install the package chromium')
  process.stderr.write('Installing Chromium with apt, for the browser tests (about 90 MB to fetch, 350 MB on disk).\n')
  const command = ['DEBIAN_FRONTEND=noninteractive', 'flock', INSTALL_LOCK, 'apt-get', '-o', 'DPkg::Lock::Timeout=300']
  const packages = ['install', '-y', '--no-install-recommends', 'chromium']
  const options = { maxBuffer: 64 * 1024 * 1024 }
  try {
    await run('env', [...command, ...packages], options)
  } catch {
    // Fresh machines have no package lists.
    await run('env', [...command, 'update'], options)
    await run('env', [...command, ...packages], options)
  }
  return '/usr/bin/chromium'
}

export type Visit = {
  readonly context: BrowserContext
  readonly page: Page
  /** Every address that the pages asked for. */
  readonly requests: string[]
  /** Errors in the pages' consoles, such as what the content policy blocked. */
  readonly errors: string[]
}

/** A fresh visitor with cookies of its own. */
export async function visit(browser: Browser, options: BrowserContextOptions = {}): Promise<Visit> {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, ...options })
  const requests: string[] = []
  const errors: string[] = []
  context.on('request', (request) => requests.push(request.url()))
  context.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text())
  })
  context.on('weberror', (error) => errors.push(String(error.error())))
  return { context, page: await context.newPage(), requests, errors }
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

const RULES = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']"

/** What axe finds wrong on the page as it stands, one line each; empty where nothing. */
export async function axeViolations(page: Page, what: 'all' | 'colours' = 'all'): Promise<string[]> {
  await page.evaluate(axeSource)
  const found = await page.evaluate<readonly { id: string; help: string; nodes: readonly { html: string; failureSummary?: string }[] }[]>(
    `axe.run(document, { resultTypes: ['violations'], runOnly: ${what === 'all' ? RULES : "['color-contrast']"} }).then((result) => result.violations)`,
  )
  return found.map(
    ({ id, help, nodes }) => `${id}: ${help}: ${nodes[0]?.html.slice(0, 200) ?? ''} ${nodes[0]?.failureSummary?.slice(0, 300) ?? ''}`,
  )
}

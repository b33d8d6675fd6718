// The console and the queue dashboard in a real browser: logging in, reading, acting, and what must never happen on a page.
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { silentLog } from '@holdfast/shared/log.ts'
import { createBullQueue } from 'holdfast-server/queues/bullmq-queue.ts'
import type { BullQueue } from 'holdfast-server/queues/bullmq-queue.ts'
import type { RedisServer } from '../../../demo/redis-server.ts'
import { axeViolations, startBrowser, visit } from '../../_support/browser.ts'
import type { Visit } from '../../_support/browser.ts'
import { startRedis } from '../../_support/redis.ts'
import { PASSWORD, startSeededFleet } from './seeded-fleet.ts'
import type { SeededFleet } from './seeded-fleet.ts'

let redis: RedisServer
let queue: BullQueue
let fleet: SeededFleet
let browser: Browser

beforeAll(async () => {
  redis = await startRedis()
  queue = await createBullQueue({ redisUrl: redis.url, log: silentLog })
  await queue.check()
  fleet = await startSeededFleet({ queue })
  await seedDeletions()
  await queue.work(fleet.context)
  browser = await startBrowser()
})

afterAll(async () => {
  await browser?.close()
  await queue?.close()
  await fleet?.close()
  await redis?.stop()
})

type Role = 'administrator' | 'operator' | 'auditor'

/** A visitor who is logged in already, by a session of its own. */
async function visitAs(role: Role, options: Parameters<typeof visit>[1] = {}): Promise<Visit> {
  const visitor = await visit(browser, options)
  const [, value = ''] = (await fleet.makeUser(role)).split('=')
  await visitor.context.addCookies([{ name: 'holdfast', value, url: fleet.address }])
  return visitor
}

function seeded() {
  if (fleet.seeded === undefined) throw new Error('not seeded')
  return fleet.seeded
}

const HELD = `del_${'4'.repeat(32)}`

/** A list that was carried out, and one that is held for the controller. */
async function seedDeletions(): Promise<void> {
  const { world } = seeded().agents[0]!
  const at = systemClock.now()
  const common = {
    ...{ createdAt: at, storeId: world.storeId, controllerId: world.controllerId, session: '1'.repeat(32), listedAt: at },
    ...{ waitUntil: null, decidedBy: null, decidedAt: null, updatedAt: at },
  }
  const counts = { snapshots: 2, packs: 40, others: 1 }
  const done = { state: 'done', code: null, reasons: [], why: 'retention', removed: 43, removedBytes: 2 ** 30, endedAt: at } as const
  await fleet.records.noteDeletion({
    row: { ...common, ...done, counts, id: `del_${'3'.repeat(32)}`, agentId: world.agent.id, random: '3'.repeat(32) },
  })
  const reasons = [{ code: 'retention', count: 1, samples: ['daily 2026-11-20'] }] as const
  const held = { state: 'held', code: 'retention', reasons, why: null, removed: 0, removedBytes: 0, endedAt: null } as const
  await fleet.records.noteDeletion({ row: { ...common, ...held, counts, id: HELD, agentId: null, random: '4'.repeat(32) } })
}

async function pages(): Promise<string[]> {
  const { agents, restores } = seeded()
  const run = (await fleet.records.list({ table: 'runs', where: { state: 'incomplete' }, limit: 1 })).items[0]
  return [
    '/fleet',
    `/agents/${agents[4]?.agent.id}`,
    '/runs',
    `/runs/${run?.id}`,
    '/records',
    `/records?token=${restores.token}`,
    '/restores',
    `/restores/${restores.granting}`,
    `/restores/${restores.running}`,
    `/restores/${restores.cancelled}`,
    `/restores/${restores.running}/cancel`,
    '/deletions',
    `/deletions/${HELD}`,
    `/deletions/${HELD}/refuse`,
    '/audit',
    '/controllers',
    `/controllers/${agents[0]?.world.controllerId}`,
  ]
}

describe('logging in', () => {
  it('asks for password and code, tells what is wrong, and leads to the page that was asked for', async () => {
    const { page, context, errors } = await visit(browser)
    await page.goto(`${fleet.address}/restores?state=cancelled`)
    expect(new URL(page.url()).pathname).toBe('/log-in')
    expect(await axeViolations(page)).toEqual([])
    const fill = async (password: string, code: string): Promise<void> => {
      await page.fill('[name=userName]', 'alice')
      await page.fill('[name=password]', password)
      await page.fill('[name=code]', code)
      await page.press('[name=code]', 'Enter')
      await page.waitForLoadState()
    }
    await fill('wrong horse battery', '000000')
    await page.waitForSelector('[role=alert]')
    expect(await page.textContent('[role=alert]')).toMatch(/is wrong, or the code was used before; try again with a fresh code/)
    expect(await page.inputValue('[name=userName]')).toBe('alice')
    expect(await axeViolations(page)).toEqual([])
    await fill(PASSWORD, fleet.code('administrator'))
    await page.waitForURL(`${fleet.address}/restores?state=cancelled`)
    expect(await page.textContent('.who')).toMatch(/alice\s+administrator/)
    const cookies = await context.cookies()
    expect(cookies.map(({ name, httpOnly, sameSite }) => ({ name, httpOnly, sameSite }))).toEqual([
      { name: 'holdfast', httpOnly: true, sameSite: 'Strict' },
    ])
    await page.click('text=Log out')
    await page.waitForURL(/\/log-in\?why=out/)
    expect(await page.textContent('[role=status]')).toBe('You are logged out.')
    await page.goto(`${fleet.address}/fleet`)
    expect(new URL(page.url()).pathname).toBe('/log-in')
    expect(errors.filter((error) => !error.includes('401'))).toEqual([])
    await context.close()
  })

  it('says so when a session has ended', async () => {
    const { page, context } = await visitAs('operator')
    await page.goto(`${fleet.address}/runs`)
    expect(await page.textContent('h1')).toBe('Runs')
    const cookie = (await context.cookies())[0]
    await context.addCookies([{ name: 'holdfast', value: `${cookie?.value.slice(0, -2)}AA`, url: fleet.address }])
    await page.goto(`${fleet.address}/runs`)
    expect(await page.textContent('[role=status]')).toMatch(/Your session has ended/)
    expect(await page.inputValue('[name=next]')).toBe('/runs')
    await context.close()
  })
})

describe('reading', () => {
  it('shows the fleet worst first, with what is wrong', async () => {
    const { page, context } = await visitAs('operator')
    await page.goto(`${fleet.address}/fleet`)
    expect(await page.textContent('.verdict p')).toBe('2 of 7 agents are protected.')
    const hosts = await page.locator('tbody tr td:nth-child(2) a').allTextContents()
    expect(hosts).toEqual(['notary-lac', 'school-east', 'dental-2', 'farm-office', 'bakery-new', 'clinic-nord', 'law-archive'])
    const dental = await page.locator('tr', { hasText: 'dental-2' }).textContent()
    expect(dental).toMatch(/Offline/)
    expect(dental).toMatch(/check power and network/)
    await page.click('text=1 failed')
    expect(await page.locator('tbody tr').count()).toBe(1)
    await context.close()
  })

  it('finds records by filter and by token, and exports the same', async () => {
    const { page, context } = await visitAs('auditor')
    await page.goto(`${fleet.address}/records`)
    await page.selectOption('[name=agentId]', { label: 'farm-office' })
    await page.selectOption('[name=kind]', 'run-ended')
    await page.click('form.filter >> text=Show')
    await page.waitForURL(/kind=run-ended/)
    expect(await page.locator('tbody tr').count()).toBe(12)
    const href = await page.getAttribute('text=Export these as NDJSON', 'href')
    const exported = await page.request.get(fleet.address + href)
    expect((await exported.text()).trim().split('\n').length).toBe(12)
    await page.click('summary >> nth=0')
    expect(await page.textContent('pre >> nth=0')).toMatch(/"kind": "run-ended",\n/)
    await page.fill('[name=token]', seeded().restores.token)
    await page.click('text=Find')
    await page.waitForURL(/token=/)
    expect(await page.textContent('h1')).toBe('Records of one file')
    expect(await page.locator('tbody tr').count()).toBe(50)
    expect(await page.locator('main').innerText()).not.toContain(seeded().restores.token)
    await context.close()
  })

  it('shows what was deleted and what is held, and why; an administrator refuses, the controller alone approves', async () => {
    const { page, context } = await visitAs('operator')
    await page.goto(`${fleet.address}/deletions?state=held`)
    expect(await page.locator('tbody tr').count()).toBe(1)
    expect(await page.textContent('tbody tr')).toMatch(/Held.*no agent.*one that the retention of its policy keeps/s)
    await page.goto(`${fleet.address}/deletions/${HELD}`)
    expect(await page.textContent('main')).toMatch(/daily 2026-11-20.*Only the controller can approve this/s)
    expect(await page.locator('text=Refuse this deletion').count()).toBe(0)
    const asked = await page.request.post(`${fleet.address}/deletions/${HELD}/refuse`, { headers: { origin: fleet.address }, form: {} })
    expect(asked.status()).toBe(403)
    await context.close()
  })

  it('works on every page without JavaScript', async () => {
    const { page, context } = await visitAs('auditor', { javaScriptEnabled: false })
    for (const path of await pages()) {
      const reply = await page.goto(fleet.address + path)
      expect(reply?.status(), path).toBe(200)
      expect(await page.locator('h1').count(), path).toBe(1)
    }
    await context.close()
  })

  it('has a page for what is not there, and for what makes no sense', async () => {
    const { page, context } = await visitAs('auditor')
    expect((await page.goto(`${fleet.address}/runs/run_${'0'.repeat(32)}`))?.status()).toBe(404)
    expect(await page.textContent('h1')).toBe('There is nothing here')
    expect((await page.goto(`${fleet.address}/records?from=yesterday`))?.status()).toBe(422)
    expect(await page.textContent('main')).toMatch(/must be UTC/)
    expect((await page.goto(`${fleet.address}/nowhere/at/all`))?.status()).toBe(404)
    expect(await page.textContent('main')).toMatch(/leads nowhere/)
    expect(await axeViolations(page)).toEqual([])
    const program = await page.request.get(`${fleet.address}/v1/nowhere`, { headers: { accept: 'application/json' } })
    expect([program.status(), ((await program.json()) as { code: string }).code]).toEqual([404, 'not-found'])
    await context.close()
  })

  it.each(['light', 'dark'] as const)(
    'has nothing for axe to object to, asks no other host, and breaks no policy of its own (%s)',
    async (colorScheme) => {
      const { page, context, requests, errors } = await visitAs('administrator', { colorScheme })
      for (const path of await pages()) {
        await page.goto(fleet.address + path)
        expect(await axeViolations(page, colorScheme === 'light' ? 'all' : 'colours'), path).toEqual([])
      }
      await page.goto(`${fleet.address}/queues`)
      await page.waitForSelector('text=transmissions')
      await page.goto(`${fleet.address}/queues/manage/queue/transmissions`)
      await page.waitForSelector('text=agentId')
      expect(requests.filter((address) => !address.startsWith(`${fleet.address}/`))).toEqual([])
      expect(errors).toEqual([])
      await context.close()
    },
  )

  it('fits a narrow window and leads the keyboard past the navigation', async () => {
    const { page, context } = await visitAs('auditor', { viewport: { width: 380, height: 800 } })
    for (const path of await pages()) {
      await page.goto(fleet.address + path)
      expect(await page.evaluate<number>('document.documentElement.scrollWidth'), path).toBe(380)
    }
    await page.keyboard.press('Tab')
    expect(await page.evaluate<string>('document.activeElement.textContent')).toBe('Skip to the content')
    await page.keyboard.press('Enter')
    expect(await page.evaluate<string>('document.activeElement.id')).toBe('main')
    await context.close()
  })

  it('keeps itself up to date while somebody looks at it', async () => {
    const { page, context } = await visitAs('auditor')
    await page.clock.install()
    await page.goto(`${fleet.address}/fleet`)
    const { agents } = seeded()
    const id = agents[0]?.agent.id ?? ''
    await fleet.records.update({ table: 'agents', id, patch: { host: 'clinic-renamed' } })
    await page.clock.runFor(20_000)
    await page.waitForSelector('text=clinic-renamed')
    await fleet.records.update({ table: 'agents', id, patch: { host: 'clinic-nord' } })
    await context.close()
  })

  it('never shows a name that was not a label, and escapes what people wrote', async () => {
    const { agents } = seeded()
    const id = agents[5]?.world.controllerId ?? ''
    await fleet.records.update({ table: 'controllers', id, patch: { name: '<img src=x onerror=alert(1)> & Sons' } })
    const { page, context, errors } = await visitAs('auditor')
    await page.goto(`${fleet.address}/controllers`)
    expect(await page.locator('tbody').innerText()).toContain('<img src=x onerror=alert(1)> & Sons')
    expect(errors).toEqual([])
    await fleet.records.update({ table: 'controllers', id, patch: { name: 'Law firm' } })
    await context.close()
  })
})

describe('acting', () => {
  it('approves as a second person, after a page that asks', async () => {
    const { page, context } = await visitAs('operator')
    const id = seeded().restores.approving
    await page.goto(`${fleet.address}/restores/${id}`)
    expect(await page.textContent('.notice')).toMatch(/a second person to approve it/)
    await page.click('text=Approve…')
    expect(await page.textContent('h1')).toBe('Approve this restore?')
    expect(await axeViolations(page)).toEqual([])
    await page.click('button:has-text("Approve")')
    await page.waitForURL(`${fleet.address}/restores/${id}`)
    expect((await fleet.records.get({ table: 'restores', id }))?.approvedBy).toMatch(/^user:usr_/)
    await context.close()
  })

  it('cancels after a page that asks, and tells where it ended', async () => {
    const { page, context } = await visitAs('operator')
    const id = seeded().restores.granting
    await page.goto(`${fleet.address}/restores/${id}`)
    await page.click('text=Cancel…')
    await page.click('text=Cancel the restore')
    await page.waitForURL(`${fleet.address}/restores/${id}`)
    expect(await page.textContent('.way .stopped')).toMatch(/Cancelled/)
    await page.goto(`${fleet.address}/restores/${id}/cancel`)
    expect((await fleet.records.get({ table: 'restores', id }))?.state).toBe('cancelled')
    await context.close()
  })

  it('asks an agent to back up now', async () => {
    const { page, context } = await visitAs('operator')
    const id = seeded().agents[0]?.agent.id ?? ''
    await page.goto(`${fleet.address}/agents/${id}`)
    await page.click('text=Back up documents now')
    expect(await page.textContent('[role=status]')).toMatch(/was asked to back up/)
    expect(await fleet.records.find({ table: 'commands', where: { agentId: id, kind: 'backup-now', state: 'queued' } })).toBeDefined()
    await context.close()
  })

  it('offers an auditor nothing to do, and refuses it', async () => {
    const { page, context } = await visitAs('auditor')
    const id = seeded().restores.running
    await page.goto(`${fleet.address}/restores/${id}`)
    expect(await page.locator('text=Cancel…').count()).toBe(0)
    await page.goto(`${fleet.address}/restores/${id}/cancel`)
    await page.click('text=Cancel the restore')
    expect(await page.textContent('h1')).toBe('You may not do this')
    expect((await fleet.records.get({ table: 'restores', id }))?.state).toBe('running')
    await context.close()
  })

  it('refuses a form of another site', async () => {
    const cookie = (await fleet.makeUser('operator')).replace('__Host-', '')
    const id = seeded().restores.running
    const post = async (headers: Record<string, string>): Promise<number> =>
      (
        await fleet.app.inject({
          method: 'POST',
          url: `/restores/${id}/cancel`,
          payload: '',
          headers: { cookie, 'content-type': 'application/x-www-form-urlencoded', host: 'server.example', ...headers },
        })
      ).statusCode
    expect(await post({ origin: 'https://evil.example' })).toBe(403)
    expect(await post({})).toBe(403)
    expect((await fleet.records.get({ table: 'restores', id }))?.state).toBe('running')
    const login = await fleet.app.inject({
      method: 'POST',
      url: '/log-in',
      payload: 'userName=alice&password=x&code=000000',
      headers: { 'content-type': 'application/x-www-form-urlencoded', host: 'server.example', origin: 'https://evil.example' },
    })
    expect(login.statusCode).toBe(403)
  })
})

describe('a held deletion', () => {
  it('is refused by an administrator after a page that asks', async () => {
    const { page, context } = await visitAs('administrator')
    await page.goto(`${fleet.address}/deletions/${HELD}`)
    await page.click('text=Refuse this deletion')
    await page.click('button.danger')
    await page.waitForURL(`${fleet.address}/deletions/${HELD}`)
    expect(await page.textContent('.heading')).toMatch(/Refused/)
    expect((await fleet.records.get({ table: 'deletions', id: HELD }))?.state).toBe('refused')
    await context.close()
  })
})

describe('the queue dashboard', () => {
  it('is reached only after the log-in', async () => {
    const { page, context } = await visit(browser)
    await page.goto(`${fleet.address}/queues`)
    expect(page.url()).toBe(`${fleet.address}/log-in?next=%2Fqueues`)
    for (const path of ['/queues/api/queues', '/queues/manage/api/queues', '/queues/static/favicon.ico'])
      expect((await page.request.get(fleet.address + path)).status(), path).toBe(401)
    await context.close()
  })

  it('is read-only for an operator', async () => {
    const { page, context } = await visitAs('operator')
    await page.goto(`${fleet.address}/queues`)
    await page.waitForSelector('text=transmissions')
    expect(new URL(page.url()).pathname).toBe('/queues')
    expect(await page.title()).toMatch(/Holdfast/)
    const change = (path: string): Promise<number> =>
      page.request.put(fleet.address + path, { headers: { origin: fleet.address } }).then((reply) => reply.status())
    expect(await change('/queues/api/queues/transmissions/pause')).toBe(405)
    expect(await change('/queues/manage/api/queues/transmissions/pause')).toBe(403)
    expect((await page.request.get(`${fleet.address}/queues/manage`)).status()).toBe(403)
    await context.close()
  })

  it('lets an administrator retry a failed job, and writes it into the audit', async () => {
    const transmissions = queue.handles.find((handle) => handle.name === 'transmissions')
    const job = await transmissions?.add(
      'transmission',
      { agentId: `ag_${'9'.repeat(32)}`, seq: 1, path: '/home/secret' },
      { jobId: 'made-up' },
    )
    for (;;) {
      if ((await job?.getState()) === 'failed') break
      await systemClock.sleep(20)
    }
    const { page, context, errors } = await visitAs('administrator')
    await page.goto(`${fleet.address}/queues`)
    await page.waitForURL(/\/queues\/manage/)
    await page.goto(`${fleet.address}/queues/manage/queue/transmissions/made-up`)
    await page.waitForSelector('text=unprocessable, agent ag_999')
    const text = await (await page.request.get(`${fleet.address}/queues/manage/api/queues/transmissions/made-up`)).text()
    expect(text).toContain('(hidden)')
    expect(text).not.toContain('secret')
    // As the page's own button does it: the browser says where the request comes from, and no page can say another place.
    const retry = "fetch('/queues/manage/api/queues/transmissions/made-up/retry', { method: 'PUT' }).then((reply) => reply.status)"
    expect(await page.evaluate<number>(retry)).toBe(204)
    const line = (await fleet.records.list({ table: 'audit', where: {}, limit: 5 })).items.find((row) =>
      row.action.startsWith('queue.retry'),
    )
    expect(line).toMatchObject({ target: 'transmissions/made-up', actor: expect.stringMatching(/^user:usr_/) })
    expect(errors).toEqual([])
    await context.close()
  })

  it('refuses a change that another site asks for', async () => {
    const { page, context } = await visitAs('administrator')
    await page.goto(`${fleet.address}/queues`)
    const reply = await page.request.put(`${fleet.address}/queues/manage/api/queues/transmissions/pause`, {
      headers: { origin: 'https://evil.example' },
    })
    expect(reply.status()).toBe(403)
    await context.close()
  })
})

describe('every page', () => {
  it('carries a strict policy and no script or style of its own', async () => {
    const cookie = (await fleet.makeUser('auditor')).replace('__Host-', '')
    for (const url of [...(await pages()), '/log-in']) {
      const reply = await fleet.app.inject({ method: 'GET', url, headers: { cookie } })
      expect(reply.headers['content-security-policy'], url).toMatch(/default-src 'none'; script-src 'self'; style-src 'self';/)
      expect(reply.headers['cache-control'], url).toBe('no-store')
      expect(reply.payload, url).not.toMatch(/<style|style="|<script>|\son[a-z]+="|https?:\/\/(?!127\.0\.0\.1|localhost)/)
    }
  })

  it('is for people with a session: nobody and no API token sees one', async () => {
    const token = seeded().agents[0]?.world.token ?? ''
    for (const url of await pages()) {
      const nobody = await fleet.app.inject({ method: 'GET', url })
      expect([nobody.statusCode, String(nobody.headers['location']).split('?')[0]], url).toEqual([303, '/log-in'])
      expect((await fleet.app.inject({ method: 'GET', url, headers: { authorization: `Bearer ${token}` } })).statusCode, url).toBe(403)
    }
  })

  it('takes an identifier in its address and nothing that leads elsewhere in the API', async () => {
    const cookie = (await fleet.makeUser('operator')).replace('__Host-', '')
    const id = seeded().restores.running
    for (const path of [`..%2Frestores%2F${id}%2Fcancel%3F`, '..%2Fusers', 'ag_1', '%00']) {
      const reply = await fleet.app.inject({
        method: 'POST',
        url: `/agents/${path}/backup-now`,
        payload: 'policyId=pol_1',
        headers: { cookie, 'content-type': 'application/x-www-form-urlencoded', host: 'server.example', origin: 'http://server.example' },
      })
      expect(reply.statusCode, path).toBe(404)
    }
    expect((await fleet.records.get({ table: 'restores', id }))?.state).toBe('running')
  })
})

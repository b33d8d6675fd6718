// The audit: every change that was made through API, console or queue dashboard, by whom and to what.
import type { AuditLine, Page } from '../api.ts'
import { withQuery } from '../api.ts'
import { actor, at, short } from '../format.ts'
import { html } from '../html.ts'
import type { Part } from '../html.ts'
import { empty, heading, pager, table } from '../layout.ts'
import { namesOf, peopleOf } from './context.ts'
import type { PageOf } from './context.ts'

export const auditPage: PageOf = async ({ api, query, visitor }) => {
  const { cursor } = query
  const [lines, names, people] = await Promise.all([
    api.get<Page<AuditLine>>('/v1/audit', { cursor, limit: 50 }),
    namesOf(api),
    peopleOf(api, visitor),
  ])
  const body = html`${heading('Audit', 'what was done through this server, newest first')}
  ${
    lines.items.length === 0
      ? empty('Nothing was done yet.', 'Every change appears here with who made it.')
      : table(
          'Audit',
          [{ head: 'When' }, { head: 'Who' }, { head: 'What' }, { head: 'To what' }, { head: 'Controller' }, { head: 'Request' }],
          lines.items.map((line) => [
            at(line.at),
            actor(line.actor, people),
            line.action,
            target(line.target),
            line.controllerId === null
              ? html`<span class="none">–</span>`
              : (names.controllers.get(line.controllerId)?.name ?? short(line.controllerId)),
            short(line.requestId),
          ]),
        )
  }
  ${pager(lines.next === null ? undefined : withQuery('/audit', { cursor: lines.next }), cursor === undefined ? undefined : '/audit')}`
  return { title: 'Audit', here: '/audit', body, live: cursor === undefined }
}

const PLACES: Readonly<Record<string, string>> = {
  ag: '/agents/',
  rst: '/restores/',
  del: '/deletions/',
  ctl: '/controllers/',
  run: '/runs/',
}

/** The id, as a link where there is a page for it. */
function target(id: string): Part {
  const place = PLACES[id.split('_')[0] ?? '']
  return place !== undefined && /^[a-z]+_[0-9a-f]{32}$/.test(id) ? html`<a href="${place}${id}">${short(id)}</a>` : short(id)
}

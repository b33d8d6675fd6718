// `holdfast doctor`: tries out what the store really does with these credentials, and looks at what stands in it.
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import type { Command } from 'commander'
import { readDescription } from '../../repository/repository.ts'
import { judgeCapabilities, probeStore, requireSuitable } from '@holdfast/shared/store/capabilities.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { formatTime } from '../format.ts'
import { withStore } from '../open.ts'

type DoctorFlags = { readonly acceptOverwrite?: boolean }

export function define(command: Command, start: Start): void {
  command
    .description('Tries out the store with about forty small requests and says what it can be trusted with. Its objects are removed again.')
    .option('--accept-overwrite', 'do not refuse credentials that can overwrite what is there')
    .addHelpText(
      'after',
      `
Run it with the credentials that the appliance will have: what they can overwrite or delete, a thief of them can too.

Exit code 15 where the store cannot hold a repository as it is, 14 where it cannot be reached.`,
    )
    .action((flags: DoctorFlags) => start('doctor', (context) => doctor(context, flags)))
}

async function doctor(context: Context, flags: DoctorFlags): Promise<Outcome> {
  return withStore(context, {}, async (store) => {
    const { report } = context
    const capabilities = await probeStore(store, context)
    const findings = judgeCapabilities(capabilities, { acceptOverwrite: flags.acceptOverwrite === true })
    for (const { level, code, text } of findings) report.say({ event: 'finding', level, code, message: text })
    const domainId = await describe(context, store)
    requireSuitable(findings)
    return {
      result: 'done',
      repository: store.location,
      ...(domainId === undefined ? {} : { domainId }),
      details: { capabilities: { ...capabilities } },
      counts: { warnings: findings.filter(({ level }) => level === 'warn').length },
    }
  })
}

async function describe(context: Context, store: Parameters<typeof readDescription>[0]): Promise<string | undefined> {
  try {
    const { domainId, createdAt, chunking, enrolled } = await readDescription(store, context.signal)
    const kind = enrolled ? 'of an enrolled domain' : 'with its keys beside the data'
    context.report.say({
      event: 'finding',
      level: 'ok',
      code: 'repository',
      message: `repository ${domainId.toString('hex').slice(0, 8)} ${kind}, made ${formatTime(createdAt)}, chunks ${chunking.mode} of about ${chunking.mean / 1024} KiB`,
    })
    return domainId.toString('hex')
  } catch (error) {
    if (isHoldfastError(error, 'damaged')) {
      context.report.say({ event: 'finding', level: 'warn', code: 'repository', message: error.message })
      return undefined
    }
    if (!isHoldfastError(error, 'no-repository')) throw error
    context.report.say({ event: 'finding', level: 'ok', code: 'repository', message: "no repository here yet; 'holdfast init' makes one" })
    return undefined
  }
}

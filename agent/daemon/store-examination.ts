// Enrolment looks at the store before it trusts it: what can be overwritten with the appliance's own credentials protects nothing (design
// section 7), so such a store is refused unless a person accepts it.
import type { Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { judgeCapabilities, probeStore, type Finding } from '../store/capabilities.ts'
import type { Store } from '../store/store.ts'
import type { AgentConfig, StoreAccess } from './agent-config.ts'
import type { CollectOptions } from './enroll.ts'

export type ExaminationOptions = {
  readonly config: AgentConfig
  /** Opens a store with what the configuration says of it. */
  readonly openStore: (access: StoreAccess) => Promise<Store>
  /** `--accept-overwrite`. */
  readonly acceptOverwrite: boolean
  /** Told of everything that was found, good or bad. */
  readonly onFinding: (finding: Finding) => void
  readonly clock: Clock
  readonly random: Random
  readonly signal?: AbortSignal | undefined
}

/** For `collectBundle`: tries out the store that the bundle names. Rejects with `store-unsuitable`, naming why, and with the store's own errors. */
export function storeExaminer(options: ExaminationOptions): NonNullable<CollectOptions['examine']> {
  return async ({ repository }) => {
    const access = Object.values(options.config.stores).find(({ location }) => location === repository) ?? { location: repository }
    const store = await options.openStore(access)
    try {
      const findings = judgeCapabilities(await probeStore(store, options), { acceptOverwrite: options.acceptOverwrite })
      for (const finding of findings) options.onFinding(finding)
      const refused = findings.filter(({ level }) => level === 'refuse')
      if (refused.length > 0)
        throw new HoldfastError(
          'store-unsuitable',
          `the store ${store.location} is not fit for a repository: ${refused.map(({ text }) => text).join('; ')}`,
          { fields: { findings: refused.map(({ code }) => code).join(',') } },
        )
    } finally {
      await store.close()
    }
  }
}

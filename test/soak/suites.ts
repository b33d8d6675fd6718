// The suites of the soak, and what each shows. They are tests like all others: the soak asks them for the full figures.
import { REAL_KILLS } from '../_support/soak.ts'

export type SoakSuite = {
  readonly name: string
  readonly says: string
  readonly files: readonly string[]
  /** Only those whose names begin so; all where it is absent. */
  readonly tests?: string
  /** On two cores. */
  readonly minutes: number
  /** A figure of its own that adds up those whose words begin with `of`. */
  readonly sum?: { readonly of: string; readonly figure: string; readonly asked: number }
  readonly env?: Readonly<Record<string, string>>
}

export const SUITES: readonly SoakSuite[] = [
  {
    name: 'points',
    says: 'every operation crashed, failed, torn and cancelled at every call',
    files: [
      'test/sim/crash-points.test.ts',
      'test/sim/key-points.test.ts',
      'test/sim/repair-crash.test.ts',
      'test/sim/restore-crash.test.ts',
      'test/server/deletions/every-call.test.ts',
    ],
    minutes: 20,
  },
  {
    name: 'seeds',
    says: 'many machines on one store, from a seed each',
    files: ['test/sim/worlds.test.ts'],
    env: { HOLDFAST_SIM_MINUTES: '0' },
    minutes: 15,
  },
  {
    name: 'hour',
    says: 'the same with fresh seeds for an hour',
    files: ['test/sim/worlds.test.ts'],
    tests: 'fresh histories',
    minutes: 60,
  },
  {
    name: 'domains',
    says: 'domains with their server: daemon, server, queue, network and store under one seed each',
    files: ['test/sim/enrolled-worlds.test.ts'],
    minutes: 15,
  },
  {
    name: 'years',
    says: 'three years of churn; collections beside backups',
    files: ['test/sim/years.test.ts', 'test/sim/beside.test.ts'],
    minutes: 20,
  },
  { name: 'planted', says: 'known bugs of others, planted and caught', files: ['test/planted'], minutes: 1 },
  { name: 'hostile', says: 'bit rot, hostile repositories, hostile servers', files: ['test/hostile'], minutes: 30 },
  { name: 'repair', says: 'random damage and repair', files: ['test/agent/repair/repair.test.ts'], minutes: 5 },
  { name: 'fuzz', says: 'every parser, guided by coverage', files: ['test/fuzz/fuzz.test.ts'], minutes: 3 },
  { name: 'fidelity', says: 'restore fidelity beside GNU tar, restic and borg', files: ['test/e2e/fidelity-cases.test.ts'], minutes: 9 },
  {
    name: 'kills',
    says: 'real processes killed',
    files: ['test/machine/kill-loop', 'test/machine/installation-kills.test.ts'],
    minutes: 10,
    sum: { of: REAL_KILLS, figure: 'real kills in all', asked: 500 },
  },
  {
    name: 'machines',
    says: 'full disks, stores and sources that vanish, bad lines, clocks that jump, files that change',
    files: ['full-disks', 'installation-disks', 'bad-lines', 'clocks', 'restless-files', 'vanishing'].map((name) => `test/machine/${name}`),
    minutes: 12,
  },
]

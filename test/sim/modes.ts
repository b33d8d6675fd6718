// What can go wrong at one call of the store or the file system: the process or the machine dies, the call fails, the disk is full, a person
// cancels, or the store lies. Each way is data: at which calls it makes sense, how it is armed, and what may become of it.
import type { ErrorCode } from '@holdfast/shared/errors.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Engine } from '../_support/engine-fixture.ts'
import { atFileCall, type FileCall, type FileFaultPlan, fromFileCall } from '../_support/simulated-file-system.ts'
import { atCall, type Fault, type StoreOperation, type TraceEntry } from '../_support/simulated-store.ts'

/** One call that an undisturbed run makes, counted from 1 among those of its seam. */
export type Call = {
  readonly index: number
  readonly operation: string
  /** The object's name or the prefix of a listing; the path of a file. */
  readonly name: string
  readonly changes: boolean
}

/** What a fault is armed on: a whole machine, or what stands for one. */
export type Armed = Pick<Engine, 'bucket' | 'setStoreFaults' | 'fs'>

export type Mode = {
  readonly name: string
  readonly seam: 'store' | 'file'
  /** Whether the fault means anything at this call. */
  readonly fits: (call: Call) => boolean
  readonly arm: (engine: Armed, call: Call, abort: AbortController) => void
  /** What the fault may become; nothing where the process dies or nobody is told. */
  readonly codes: readonly ErrorCode[]
  /** The store said what was not so: a snapshot may then be damaged, and damage must be told. */
  readonly lies?: boolean
  /** Some of what was not synced is lost. */
  readonly losesFiles?: boolean
  /** The object of the call is spoilt for good. */
  readonly spoils?: boolean
}

const STORE_CODES: readonly ErrorCode[] = ['store-unreachable', 'store-full']
const FILE_CODES: readonly ErrorCode[] = ['local-disk', 'source-missing', 'source-unreadable']
/** What a lie of the store may be noticed as. */
const LIE_CODES: readonly ErrorCode[] = [
  'store-unreachable',
  'damaged',
  'not-found',
  'no-repository',
  'wrong-key',
  'newer-format',
  'store-unsuitable',
  'too-large',
  'failed',
]

const any = (): boolean => true
const on =
  (...operations: StoreOperation[]) =>
  (call: Call): boolean =>
    operations.some((operation) => operation === call.operation)
const changing = ({ changes }: Call): boolean => changes
// What was only read is closed without an error by every kernel.
const canFail = ({ operation, name }: Call): boolean => operation !== 'close' || /\.(part|tmp|new)$/.test(name)

function storeMode(
  name: string,
  fits: Mode['fits'],
  faultOf: (call: Call, engine: Armed) => Fault | undefined,
  more: Partial<Mode> = {},
): Mode {
  return {
    name,
    seam: 'store',
    fits,
    codes: STORE_CODES,
    ...more,
    arm: (engine, call) => {
      const fault = faultOf(call, engine)
      if (fault !== undefined) engine.setStoreFaults(atCall(engine.bucket.trace.length + call.index, fault))
    },
  }
}

function fileMode(name: string, fits: Mode['fits'], plan: (index: number) => FileFaultPlan, more: Partial<Mode> = {}): Mode {
  return { name, seam: 'file', fits, codes: FILE_CODES, ...more, arm: (engine, { index }) => engine.fs.setFaults(plan(index)) }
}

const cancelled = (): HoldfastError => new HoldfastError('cancelled', 'a person interrupted it')
/** Another object of the same kind, as an older one that is answered under a newer name. */
function another(engine: Armed, name: string): string | undefined {
  const prefix = name.slice(0, name.indexOf('/') + 1)
  return engine.bucket.names(prefix).find((one) => one !== name)
}

/** Ways in which the store or its line fails or the machine dies at a call of the store: every promise holds. */
export const STORE_MODES: readonly Mode[] = [
  storeMode('store crash before', any, () => ({ kind: 'crash', when: 'before' }), { codes: [] }),
  storeMode('store crash after', any, () => ({ kind: 'crash', when: 'after' }), { codes: [] }),
  storeMode('store fails once', any, () => ({ kind: 'fail', when: 'before', code: 'store-unreachable' })),
  storeMode('store fails after its effect', any, () => ({ kind: 'fail', when: 'after', code: 'store-unreachable' })),
  {
    name: 'store fails for good',
    seam: 'store',
    fits: any,
    codes: STORE_CODES,
    arm: (engine, { index }) => {
      const at = engine.bucket.trace.length + index
      engine.setStoreFaults((one) => (one.index >= at ? [{ kind: 'fail', when: 'before', code: 'store-full' }] : []))
    },
  },
  storeMode('store breaks a put', on('put'), () => ({ kind: 'torn', keepBytes: 100, reported: 'failure' }), { spoils: true }),
  {
    name: 'cancelled at a store call',
    seam: 'store',
    fits: any,
    codes: ['cancelled'],
    arm: (engine, { index }, abort) => {
      const at = engine.bucket.trace.length + index
      engine.setStoreFaults((one) => {
        if (one.index === at) abort.abort(cancelled())
        return []
      })
    },
  },
]

/** Ways in which a store lies once: nothing wrong is ever restored, and damage is told. */
export const LIE_MODES: readonly Mode[] = [
  storeMode('put cut short and told as stored', on('put'), () => ({ kind: 'torn', keepBytes: 100, reported: 'success' }), { spoils: true }),
  storeMode('put forgotten', on('put'), () => ({ kind: 'lost' })),
  storeMode('put seen an hour late', on('put'), () => ({ kind: 'late', ms: 3_600_000 })),
  storeMode('list cut short', on('list'), () => ({ kind: 'short-list', drop: 1 })),
  storeMode('list of a minute ago', on('list', 'head'), () => ({ kind: 'stale', ms: 60_000 })),
  storeMode('read with a wrong bit', on('get', 'getRange'), ({ index }) => ({ kind: 'flipped', bit: index * 7919 })),
  storeMode('read of another object', on('get', 'getRange'), ({ name }, engine) => {
    const other = another(engine, name)
    return other === undefined ? undefined : { kind: 'misdirected', name: other }
  }),
].map((mode) => ({ ...mode, lies: true, codes: LIE_CODES }))

/** Ways in which the machine or its disk fails at a call of the file system. */
export const FILE_MODES: readonly Mode[] = [
  fileMode('machine crash', changing, (index) => atFileCall(index, 'crash'), { codes: [], losesFiles: true }),
  fileMode('file call fails once', canFail, (index) => atFileCall(index, 'EIO')),
  fileMode(
    'disk full',
    (call) => call.changes && canFail(call),
    (index) => fromFileCall(index, 'ENOSPC'),
  ),
  {
    name: 'cancelled at a file call',
    seam: 'file',
    fits: any,
    codes: ['cancelled'],
    arm: (engine, { index }, abort) =>
      engine.fs.setFaults((one) => {
        if (one.index === index) abort.abort(cancelled())
        return undefined
      }),
  },
]

export const MODES: readonly Mode[] = [...STORE_MODES, ...LIE_MODES, ...FILE_MODES]

/** The calls of an undisturbed run as points see them. */
export function callsOf(trace: readonly TraceEntry[], files: readonly FileCall[]): { store: Call[]; files: Call[] } {
  return {
    store: trace.map(({ operation, name }, i) => ({
      index: i + 1,
      operation,
      name,
      changes: operation === 'put' || operation === 'remove',
    })),
    files: files.map(({ index, operation, path, changes }) => ({ index, operation, name: path, changes })),
  }
}

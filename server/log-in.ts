// Logging in: password, then one-time or recovery code, both throttled per person and per address; a used code is never taken again (O19).
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Context } from './context.ts'
import { SESSION_MS } from './identify.ts'
import { secretHash, totpStep, verifyPassword } from './passwords.ts'
import type { SessionRow, UserRow } from './records/rows.ts'

const ADDRESS_WINDOW_MS = 5 * 60_000
const ADDRESS_TRIES_MAX = 30
const ADDRESSES_MAX = 10_000
/** Each try costs 64 MiB for a moment. */
const AT_ONCE_MAX = 4
const FREE_TRIES = 4
const LOCK_MS_MAX = 15 * 60_000

export type LogIn = {
  readonly userName: string
  readonly password: string
  readonly code: string
  readonly address: string
  readonly requestId: string
}
export type LoggedIn = { readonly user: UserRow; readonly session: SessionRow; /** The cookie's value. */ readonly secret: string }

/** A log-in service of one server; it remembers tries by address. */
export function makeLogIn(context: Context): (attempt: LogIn) => Promise<LoggedIn> {
  const { records, clock, random, keys } = context
  const tries = new Map<string, { since: number; count: number }>()
  let atOnce = 0

  return async (attempt) => {
    throttleAddress(attempt.address)
    if (atOnce >= AT_ONCE_MAX)
      throw new HoldfastError('too-many', 'too many log-ins at once; try again in a moment', { fields: { retryAfter: 2 } })
    atOnce++
    try {
      return await logIn(attempt)
    } finally {
      atOnce--
    }
  }

  async function logIn({ userName, password, code, requestId }: LogIn): Promise<LoggedIn> {
    const now = clock.now()
    const user = await records.find({ table: 'users', where: { userName } })
    if (user !== undefined && user.lockedUntil > now) {
      const retryAfter = Math.ceil((user.lockedUntil - now) / 1000)
      throw new HoldfastError('too-many', `too many failed log-ins; try again in ${retryAfter} seconds`, { fields: { retryAfter } })
    }
    // An unknown name costs as much time as a wrong password.
    const right = await verifyPassword(password, user?.passwordHash ?? NOBODY)
    if (user === undefined || user.disabled) throw wrong()
    const step = totpStep(keys.open(user.totpSecret, `totp ${user.id}`), code, now)
    const recoveryHash = step === undefined ? secretHash(code.trim().toLowerCase()) : undefined
    const known = step !== undefined || user.recoveryHashes.includes(recoveryHash ?? '')
    const lockMs = user.failedLogIns < FREE_TRIES ? 0 : Math.min(LOCK_MS_MAX, 1000 * 2 ** (user.failedLogIns - FREE_TRIES))
    const proof = step === undefined ? { recoveryHash: recoveryHash ?? '' } : { totpStep: step }
    const good = await records.noteLogIn({ userId: user.id, ok: right && known, at: now, lockMs, ...proof })
    if (!good) throw wrong()
    const secret = random.bytes(32).toString('base64url')
    const session: SessionRow = { id: secretHash(secret), createdAt: now, userId: user.id, lastUsedAt: now, expiresAt: now + SESSION_MS }
    await records.insert(
      { table: 'sessions', row: session },
      { id: requestId, at: now, actor: `user:${user.id}`, action: 'log-in', target: user.id, controllerId: null },
    )
    return { user, session, secret }
  }

  function throttleAddress(address: string): void {
    const now = clock.now()
    if (tries.size > ADDRESSES_MAX) for (const [key, { since }] of tries) if (since + ADDRESS_WINDOW_MS <= now) tries.delete(key)
    const entry = tries.get(address)
    if (entry === undefined || entry.since + ADDRESS_WINDOW_MS <= now) {
      tries.set(address, { since: now, count: 1 })
      return
    }
    entry.count++
    if (entry.count > ADDRESS_TRIES_MAX) {
      const retryAfter = Math.ceil((entry.since + ADDRESS_WINDOW_MS - now) / 1000)
      throw new HoldfastError('too-many', `too many log-ins from this address; try again in ${retryAfter} seconds`, {
        fields: { retryAfter },
      })
    }
  }
}

/** A hash that no password has been made for, at the cost that real ones have. */
const NOBODY = `$argon2id$v=19$m=65536,t=3,p=4$${'A'.repeat(22)}$${'A'.repeat(43)}`

function wrong(): HoldfastError {
  return new HoldfastError(
    'unauthenticated',
    'user name, password or code is wrong, or the code was used before; try again with a fresh code',
  )
}

// Setting a server up: data directory, keys, database and the first administrator with password and TOTP. Done once.
import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { keyFingerprint } from '@holdfast/shared/base32.ts'
import type { Clock } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { makeId } from '@holdfast/shared/ids.ts'
import { userName as userNameSchema } from '@holdfast/shared/protocol/resources.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { createKeyFiles, readKeyFiles } from './keys.ts'
import type { ServerKeys } from './keys.ts'
import { hashPassword, makeRecoveryCodes, makeTotpSecret, otpauthUri, secretHash } from './passwords.ts'
import type { Audit, Records } from './records/records.ts'
import { openSqliteRecords } from './records/sqlite-records.ts'
import type { UserRow } from './records/rows.ts'

export const DATABASE_FILE = 'holdfast.db'
export const PROCESSOR_SETTING = 'processor-id'

export type InitResult = {
  readonly data: string
  readonly processorId: string
  readonly fingerprint: string
  readonly userName: string
  readonly otpauth: string
  readonly recoveryCodes: readonly string[]
}

/** Sets up `data`; `already-exists` where a server was set up there before, and nothing is changed then. */
export async function initServer(options: {
  data: string
  keys: string
  userName: string
  password: string
  clock: Clock
  random: Random
}): Promise<InitResult> {
  const { data, keys, userName, password, clock, random } = options
  if (!userNameSchema.safeParse(userName).success)
    throw new HoldfastError('usage', 'a user name is 1 to 32 of a-z 0-9 . _ -, and begins with a letter or digit')
  // Before anything is made: a short password must not leave half a server behind.
  const passwordHash = await hashPassword(password, random)
  for (const folder of [data, keys]) makeFolder(folder)
  const records = await openSqliteRecords(join(data, DATABASE_FILE))
  try {
    // The first administrator is the last thing made, so that an init that was interrupted can be run again.
    if ((await records.list({ table: 'users', where: {}, limit: 1 })).items.length > 0) {
      throw new HoldfastError('already-exists', `a server was set up in ${data} before; start it, or name another --data`)
    }
    createKeyFiles(keys, random)
    const serverKeys = readKeyFiles(keys, random)
    const processorId = await records.initSetting({ name: PROCESSOR_SETTING, value: makeId(random, 'processor') })
    const { totpSecret, recoveryCodes } = await addUser(records, {
      keys: serverKeys,
      clock,
      random,
      userName,
      passwordHash,
      role: 'administrator',
    })
    return {
      data,
      processorId,
      fingerprint: keyFingerprint(serverKeys.signing.publicKey),
      userName,
      otpauth: otpauthUri(totpSecret, userName),
      recoveryCodes,
    }
  } finally {
    await records.close()
  }
}

/** Adds a person; the TOTP secret and recovery codes are shown once, by the caller. */
export async function addUser(
  records: Records,
  user: { keys: ServerKeys; clock: Clock; random: Random; userName: string; passwordHash: string; role: UserRow['role']; audit?: Audit },
): Promise<{ row: UserRow; totpSecret: Buffer; recoveryCodes: string[] }> {
  const { keys, clock, random, userName, passwordHash, role } = user
  const id = makeId(random, 'user')
  const totpSecret = makeTotpSecret(random)
  const recoveryCodes = makeRecoveryCodes(random)
  const at = clock.now()
  const row: UserRow = {
    id,
    createdAt: at,
    userName,
    role,
    passwordHash,
    totpSecret: keys.seal(totpSecret, `totp ${id}`),
    totpStep: 0,
    recoveryHashes: recoveryCodes.map(secretHash),
    failedLogIns: 0,
    lockedUntil: 0,
    disabled: false,
  }
  await records.insert(
    { table: 'users', row },
    { id: makeId(random, 'request'), at, actor: 'system', action: 'user.add', target: id, controllerId: null },
  )
  return { row, totpSecret, recoveryCodes }
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    chmodSync(folder, 0o700)
  } catch (cause) {
    throw new HoldfastError('local-disk', `cannot make the folder ${folder}; check the permissions of the folder above it`, { cause })
  }
}

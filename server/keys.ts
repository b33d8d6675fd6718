// The server's two keys, in files outside the database: Ed25519, which agents pin, and the sealing key for secrets at rest.
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { existsSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import type { Random } from '@holdfast/shared/random.ts'
import { signingKey } from '@holdfast/shared/signing.ts'
import type { SigningKey } from '@holdfast/shared/signing.ts'

export type ServerKeys = {
  readonly signing: SigningKey
  /** Seals a secret for the database; `purpose` says what it is and must be the same on opening. */
  seal(secret: Uint8Array, purpose: string): Buffer
  /** Opens what `seal` made; `wrong-key` for anything else. */
  open(sealed: Uint8Array, purpose: string): Buffer
}

const NONCE = 12
const TAG = 16

/** Keys from their two 32-byte secrets. */
export function makeServerKeys(secrets: { signingSeed: Uint8Array; sealingKey: Uint8Array }, random: Random): ServerKeys {
  const key = Buffer.from(secrets.sealingKey)
  return {
    signing: signingKey(secrets.signingSeed),
    seal: (secret, purpose) => {
      // 96 random bits a secret: there are a few thousand at most under one key, far below the bound of GCM for random nonces.
      const nonce = random.bytes(NONCE)
      const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad(purpose))
      return Buffer.concat([Buffer.of(1), nonce, cipher.update(secret), cipher.final(), cipher.getAuthTag()])
    },
    open: (sealed, purpose) => {
      try {
        if (sealed.length < 1 + NONCE + TAG || sealed[0] !== 1) throw new RangeError('too short, or another version')
        const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(1, 1 + NONCE)).setAAD(aad(purpose))
        decipher.setAuthTag(sealed.subarray(-TAG))
        return Buffer.concat([decipher.update(sealed.subarray(1 + NONCE, -TAG)), decipher.final()])
      } catch (cause) {
        throw new HoldfastError(
          'wrong-key',
          'a secret in the database does not open with this sealing key; put back the key file that belongs to this database',
          { cause },
        )
      }
    },
  }
}

function aad(purpose: string): Buffer {
  return Buffer.from(`holdfast/1 sealed\n${purpose}`, 'utf8')
}

const SIGNING_FILE = 'server.key'
const SEALING_FILE = 'sealing.key'

/** Makes the key files (0600) that are not in `folder` yet; one that is there stays as it is. */
export function createKeyFiles(folder: string, random: Random): void {
  for (const name of [SIGNING_FILE, SEALING_FILE]) {
    const path = join(folder, name)
    if (existsSync(path)) continue
    const part = `${path}.part`
    try {
      // Whole or not there: half a key must never be taken for one.
      writeFileSync(part, `${random.bytes(32).toString('base64url')}\n`, { mode: 0o600, flush: true })
      renameSync(part, path)
    } catch (cause) {
      throw new HoldfastError('local-disk', `cannot write ${path}; check the folder's permissions and free space`, { cause })
    }
  }
}

/** Reads both keys; `bad-config` where a file is missing, malformed, or readable by others. */
export function readKeyFiles(folder: string, random: Random): ServerKeys {
  return makeServerKeys({ signingSeed: readKey(join(folder, SIGNING_FILE)), sealingKey: readKey(join(folder, SEALING_FILE)) }, random)
}

function readKey(path: string): Buffer {
  let text: string
  let mode: number
  try {
    mode = statSync(path).mode
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    throw new HoldfastError(
      'bad-config',
      `cannot read the key ${path}; run holdfast-server init first, or put the file back from its backup`,
      { cause },
    )
  }
  if ((mode & 0o077) !== 0) throw new HoldfastError('bad-config', `${path} can be read by others; run chmod 600 on it`)
  const key = Buffer.from(text.trim(), 'base64url')
  if (key.length !== 32) throw new HoldfastError('bad-config', `${path} holds no key of 32 bytes; put the file back from its backup`)
  return key
}

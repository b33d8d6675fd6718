// Signatures that were found good once are not checked again: the simulation opens the same objects thousands of times, and checking costs a third of
// it. What was never found good is checked each time.
import type * as signing from '@holdfast/shared/signing.ts'

/** The module with a memory. */
export function rememberSignatures(real: typeof signing): typeof signing {
  const good = new WeakMap<object, Set<string>>()
  return {
    ...real,
    verifySignature: (publicKey, bytes, signature) => {
      if (publicKey instanceof Uint8Array) return real.verifySignature(publicKey, bytes, signature)
      const known = good.get(publicKey) ?? new Set<string>()
      good.set(publicKey, known)
      const statement = `${Buffer.from(bytes).toString('latin1')} ${Buffer.from(signature).toString('latin1')}`
      if (known.has(statement)) return true
      const isGood = real.verifySignature(publicKey, bytes, signature)
      if (isGood) known.add(statement)
      return isGood
    },
  }
}

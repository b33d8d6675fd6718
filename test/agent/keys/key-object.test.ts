// Key objects: the right secret opens the root, nothing else does, and one bad object never blocks the others (B18).
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { systemRandom } from '@holdfast/shared/random.ts'
import { newDomainRoot } from '../../../agent/keys/domain.ts'
import { keyNameOf, readKeyObject, unlockRoot, unwrapRoot, wrapRoot } from '../../../agent/keys/key-object.ts'
import type { Secret } from '../../../agent/keys/key-object.ts'
import { makeRecoveryCode, printRecoveryCode } from '../../../agent/keys/recovery-code.ts'

const domain = newDomainRoot(systemRandom)
const cheap = { memoryKiB: 8192, passes: 1, lanes: 1 }
const passphrase = { passphrase: 'correct horse' }
const recoveryCode = { recoveryCode: printRecoveryCode(makeRecoveryCode(systemRandom)) }
const code = (name: string) => expect.objectContaining({ code: name })

function wrap(secret: Secret, label = 'me', cost = cheap): Promise<Buffer> {
  return wrapRoot({ ...domain, secret, label, createdAt: 1_700_000_000_000, random: systemRandom, cost })
}

describe('a key object', () => {
  it('opens with its passphrase and its recovery code, and shows its label only then', async () => {
    for (const secret of [passphrase, recoveryCode]) {
      const bytes = await wrap(secret, 'büro')
      expect(bytes.includes('büro')).toBe(false)
      expect(await unwrapRoot(bytes, secret, 'keys/1')).toEqual({ ...domain, label: 'büro', createdAt: 1_700_000_000_000 })
    }
  })

  it('is wrapped at 64 MiB, 3 passes and 4 lanes unless told otherwise', async () => {
    const bytes = await wrapRoot({ ...domain, secret: passphrase, label: '', createdAt: 0, random: systemRandom })
    expect(readKeyObject(bytes, 'keys/1').cost).toEqual({ memoryKiB: 65_536, passes: 3, lanes: 4 })
    expect((await unwrapRoot(bytes, passphrase, 'keys/1'))?.root).toEqual(domain.root)
  })

  it('opens with the same passphrase in another Unicode form', async () => {
    const bytes = await wrap({ passphrase: 'caf\u00e9' })
    expect(await unwrapRoot(bytes, { passphrase: 'cafe\u0301' }, 'keys/1')).toBeDefined()
  })

  it('stays closed for another passphrase, another code and the other kind of secret', async () => {
    const bytes = await wrap(passphrase)
    expect(await unwrapRoot(bytes, { passphrase: 'Correct horse' }, 'keys/1')).toBeUndefined()
    expect(await unwrapRoot(bytes, recoveryCode, 'keys/1')).toBeUndefined()
    const other = { recoveryCode: printRecoveryCode(makeRecoveryCode(systemRandom)) }
    expect(await unwrapRoot(await wrap(recoveryCode), other, 'keys/1')).toBeUndefined()
  })

  it('with any one byte changed opens nothing', async () => {
    const bytes = await wrap(recoveryCode)
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes)
      changed[at] = changed[at]! ^ 0x01
      await expect(unlockRoot([{ name: 'keys/1', bytes: changed }], recoveryCode)).rejects.toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^(damaged|wrong-passphrase|newer-format)$/) }),
      )
    }
  })

  it('that is not what its name says is called damaged, where the secret opens no other: nobody can tell then whether the secret is right', async () => {
    const [bytes, other] = [await wrap(passphrase), await wrap({ passphrase: 'another horse' })]
    const gone = { name: keyNameOf(bytes), bytes: Buffer.from(bytes) }
    gone.bytes[gone.bytes.length - 1]! ^= 1
    const sound = { name: keyNameOf(other), bytes: other }
    const damaged = { code: 'damaged', message: expect.stringMatching(new RegExp(`${gone.name} is not what was stored`)) }
    await expect(unlockRoot([gone], passphrase)).rejects.toThrow(expect.objectContaining(damaged))
    const wrong = { code: 'wrong-passphrase', message: expect.stringContaining(gone.name) }
    await expect(unlockRoot([gone, sound], passphrase)).rejects.toThrow(expect.objectContaining(wrong))
    expect(await unlockRoot([gone, sound], { passphrase: 'another horse' })).toMatchObject({ keyName: sound.name })
    await expect(unlockRoot([sound], passphrase)).rejects.toThrow(code('wrong-passphrase'))
  })

  it('cut short or made longer anywhere is refused without any other error', async () => {
    const bytes = await wrap(recoveryCode)
    for (let length = 0; length < bytes.length; length++) {
      await expect(unlockRoot([{ name: 'keys/1', bytes: bytes.subarray(0, length) }], recoveryCode)).rejects.toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^(damaged|wrong-passphrase)$/) }),
      )
    }
    const longer = Buffer.concat([bytes, Buffer.alloc(1)])
    await expect(unlockRoot([{ name: 'keys/1', bytes: longer }], recoveryCode)).rejects.toThrow(code('wrong-passphrase'))
    const huge = Buffer.concat([bytes, Buffer.alloc(1000)])
    await expect(unlockRoot([{ name: 'keys/1', bytes: huge }], recoveryCode)).rejects.toThrow(code('damaged'))
  })

  it('that is rubbish gives only errors of the family', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 220 }), async (rubbish) => {
        await expect(unlockRoot([{ name: 'keys/1', bytes: Buffer.from(rubbish) }], passphrase)).rejects.toThrow(code('damaged'))
      }),
    )
  })

  it('that asks for more work than allowed is refused before the work is done', async () => {
    const bytes = await wrap(passphrase)
    for (const [at, value] of [
      [33, 2 ** 20 + 1],
      [33, 8191],
      [33, 0xffffffff],
      [37, 0],
      [37, 17],
      [41, 0],
      [41, 17],
    ] as const) {
      const changed = Buffer.from(bytes)
      changed.writeUInt32LE(value, at)
      expect(() => readKeyObject(changed, 'keys/1')).toThrow(code('damaged'))
    }
    await expect(wrap(passphrase, '', { memoryKiB: 1024, passes: 1, lanes: 1 })).rejects.toThrow(code('usage'))
  })

  it('of a recovery code with a cost, of an unknown derivation or with an epoch is refused', async () => {
    const bytes = await wrap(recoveryCode)
    for (const at of [33, 37, 41, 12, 10]) {
      const changed = Buffer.from(bytes)
      changed[at] = 1
      expect(() => readKeyObject(changed, 'keys/1')).toThrow(code('damaged'))
    }
    const unknown = Buffer.from(bytes)
    unknown[32] = 3
    expect(() => readKeyObject(unknown, 'keys/1')).toThrow(code('damaged'))
  })

  it('takes no empty passphrase, no lone surrogate and no long label', async () => {
    await expect(wrap({ passphrase: '' })).rejects.toThrow(code('usage'))
    await expect(wrap({ passphrase: '\ud800' })).rejects.toThrow(code('usage'))
    await expect(wrap(recoveryCode, 'ü'.repeat(33))).rejects.toThrow(code('usage'))
  })
})

describe('opening the root from what a store holds', () => {
  it('finds the object that the secret opens and passes over damaged ones', async () => {
    const other = await wrapRoot({ ...domain, secret: { passphrase: 'x' }, label: '', createdAt: 1, random: systemRandom, cost: cheap })
    const objects = [
      { name: 'keys/0', bytes: Buffer.alloc(0) },
      { name: 'keys/1', bytes: Buffer.from('rubbish'.repeat(30)) },
      { name: 'keys/2', bytes: other },
      { name: 'keys/3', bytes: await wrap(recoveryCode) },
      { name: 'keys/4', bytes: await wrap(passphrase, 'mine') },
      { name: 'keys/5', bytes: (await wrap(passphrase)).subarray(0, 100) },
    ]
    expect(await unlockRoot(objects, passphrase)).toMatchObject({ ...domain, keyName: 'keys/4', label: 'mine' })
    expect(await unlockRoot(objects, recoveryCode)).toMatchObject({ ...domain, keyName: 'keys/3' })
    await expect(unlockRoot(objects, { passphrase: 'nobody' })).rejects.toThrow(/it opens none of the 2 keys .* 3 more could not be read/)
  })

  it('tries an expensive object only after the cheap ones', async () => {
    const expensive = await wrap(passphrase, 'cheap')
    expensive.writeUInt32LE(2 ** 20, 33)
    expensive.writeUInt32LE(16, 37)
    const objects = [
      { name: 'keys/0', bytes: expensive },
      { name: 'keys/1', bytes: await wrap(passphrase, 'mine') },
    ]
    expect((await unlockRoot(objects, passphrase)).keyName).toBe('keys/1')
  })

  it('finds the object that the secret opens beside any number of cheap ones that open with nothing', async () => {
    const mine = [
      { name: 'keys/1', bytes: await wrap(passphrase, 'mine', { ...cheap, passes: 2 }) },
      { name: 'keys/f', bytes: await wrap(recoveryCode) },
    ]
    for (const secret of [passphrase, recoveryCode]) {
      const bytes = await wrap(secret)
      const junk = Array.from({ length: 100 }, (_, i) => {
        const one = Buffer.from(bytes)
        one.writeUInt8(one.readUInt8(one.length - 1) ^ 1, one.length - 1)
        return { name: `keys/0${i}`, bytes: one }
      })
      expect(await unlockRoot([...junk, ...mine], secret)).toMatchObject({
        root: domain.root,
        keyName: secret === passphrase ? 'keys/1' : 'keys/f',
      })
    }
  })

  it('refuses an object of another domain where the domain is known', async () => {
    const objects = [{ name: 'keys/1', bytes: await wrap(recoveryCode) }]
    expect((await unlockRoot(objects, recoveryCode, domain.domainId)).root).toEqual(domain.root)
    await expect(unlockRoot(objects, recoveryCode, Buffer.alloc(16))).rejects.toThrow(code('damaged'))
  })

  it('says what is missing: no object, none of this kind, a mistyped code, a newer format', async () => {
    const object = { name: 'keys/1', bytes: await wrap(passphrase) }
    await expect(unlockRoot([], passphrase)).rejects.toThrow(code('not-found'))
    await expect(unlockRoot([object], recoveryCode)).rejects.toThrow(/No key here opens with a recovery code: give the passphrase/)
    await expect(unlockRoot([object], { recoveryCode: 'abc' })).rejects.toThrow(/3 characters instead of 36/)
    const newer = Buffer.from(object.bytes)
    newer[8] = 2
    await expect(unlockRoot([{ name: 'keys/1', bytes: newer }], passphrase)).rejects.toThrow(code('newer-format'))
  })
})

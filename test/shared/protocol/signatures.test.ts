// Requests, answers and codes: signed over everything that matters, and refused after any change.
import { expect, it } from 'vitest'
import {
  makeEnrolmentCode,
  parseEnrolmentCode,
  pinMatches,
  requestBytes,
  responseBytes,
  signRequest,
  verifyResponse,
} from '@holdfast/shared/protocol/signatures.ts'
import { signingKey, verifySignature } from '@holdfast/shared/signing.ts'
import { keyFingerprint } from '@holdfast/shared/base32.ts'
import { seededRandom } from '../../_support/seeded-random.ts'

const random = seededRandom('signatures')
const key = signingKey(random.bytes(32))

it('a request signature covers method, path with query, time, nonce and body', () => {
  const request = { method: 'POST', path: '/v1/agent/poll?x=1', timeMs: 1_700_000_000_000, body: Buffer.from('{}') }
  const { headers, nonce } = signRequest(key, 'new', random, request)
  const signature = Buffer.from(headers['holdfast-signature']!, 'base64url')
  expect(verifySignature(key.publicKey, requestBytes({ ...request, nonce }), signature)).toBe(true)
  for (const change of [
    { method: 'PUT' },
    { path: '/v1/agent/poll?x=2' },
    { timeMs: 1 },
    { nonce: '0'.repeat(32) },
    { body: Buffer.from('[]') },
  ]) {
    expect(verifySignature(key.publicKey, requestBytes({ ...request, nonce, ...change }), signature)).toBe(false)
  }
})

it('an answer is of this server, this status, this body and this request', () => {
  const answer = { status: 200, requestNonce: 'a'.repeat(32), body: Buffer.from('{}') }
  const signature = key.sign(responseBytes(200, answer.requestNonce, answer.body)).toString('base64url')
  expect(verifyResponse(key.publicKey, { ...answer, signature })).toBe(true)
  for (const change of [
    { status: 201 },
    { requestNonce: 'b'.repeat(32) },
    { body: Buffer.from('[]') },
    { signature: undefined },
    { signature: 'x' },
  ]) {
    expect(verifyResponse(key.publicKey, { ...answer, signature, ...change })).toBe(false)
  }
})

it('an enrolment code pins the server that made it', () => {
  const { code, secret } = makeEnrolmentCode(random, key.publicKey)
  const parsed = parseEnrolmentCode(` ${code.toUpperCase()}\n`)
  expect(parsed.secret).toBe(secret)
  expect(pinMatches(parsed.pin, key.publicKey)).toBe(true)
  expect(pinMatches(parsed.pin, signingKey(random.bytes(32)).publicKey)).toBe(false)
  expect(() => parseEnrolmentCode(code.slice(1))).toThrow(expect.objectContaining({ code: 'usage' }))
})

it('a fingerprint has eight groups of four', () => {
  expect(keyFingerprint(key.publicKey)).toMatch(/^([a-z2-7]{4}-){7}[a-z2-7]{4}$/)
})

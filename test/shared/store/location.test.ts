// A location is typed by a person and kept in configuration: what it means is fixed, and mistakes get one clear line.
import { assert, property, string } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isHoldfastError } from '@holdfast/shared/errors.ts'
import { formatLocation, openStore, parseLocation, storeConfigFromEnv } from '@holdfast/shared/store/location.ts'
import { expectCode } from '../../contract/store-contract.ts'

describe('a location', () => {
  test('is a path, made absolute, or an S3 address', () => {
    expect(parseLocation('/srv/backup')).toEqual({ kind: 'directory', path: '/srv/backup' })
    expect(parseLocation('./s3:odd')).toMatchObject({ kind: 'directory' })
    expect(parseLocation('/mnt/a:b')).toEqual({ kind: 'directory', path: '/mnt/a:b' })
    const at = { kind: 's3', endpoint: 'https://s3.example.com:9000', bucket: 'my-bucket', prefix: 'a/B_c' }
    expect(parseLocation('s3:https://s3.example.com:9000/my-bucket/a/B_c/')).toEqual(at)
    expect(parseLocation('s3:https://[::1]:9000/my-bucket')).toEqual({
      kind: 's3',
      endpoint: 'https://[::1]:9000',
      bucket: 'my-bucket',
      prefix: '',
    })
  })

  test('takes plain http for loopback only, unless allowed', () => {
    for (const host of ['127.0.0.1', '127.9.9.9:80', 'localhost:1', '[::1]:9000'])
      expect(parseLocation(`s3:http://${host}/bucket`).kind).toBe('s3')
    expect(() => parseLocation('s3:http://example.com/bucket')).toThrow('loopback')
    expect(() => parseLocation('s3:http://127.example.com/bucket')).toThrow('loopback')
    expect(parseLocation('s3:http://example.com/bucket', { allowPlainHttp: true }).kind).toBe('s3')
  })

  test.each([
    '',
    ' ',
    's3:',
    's3:bucket/prefix',
    's3://bucket/prefix',
    's3:https://host',
    's3:https://host/',
    's3:https://host/b',
    's3:https://host//prefix',
    's3:https://host/bucket//a',
    's3:https://host/bucket/../a',
    's3:https://host/bucket/%2e%2e/a',
    's3:https://host/bucket/ä',
    's3:https://host/bucket?versions',
    's3:https://host/bucket#a',
    's3:https://key:secret@host/bucket',
    's3:https://host:99999/bucket',
    's3:ftp://host/bucket',
    'https://host/bucket',
    'sftp:user@host:/path',
    'a\0b',
    `/${'x'.repeat(5000)}`,
  ])('is refused as %j with a word on how to write it', (text) => {
    expect(() => parseLocation(text)).toThrow('s3:https://host[:port]/bucket[/prefix]')
  })

  test('never repeats a password', () => {
    expect(() => parseLocation('s3:https://key:geheim@host/bucket')).toThrow(/^(?!.*geheim)/)
    expect(() => parseLocation('s3:https://key:geheim@ho st/bucket')).toThrow(/^(?!.*geheim)/)
  })

  test("gives the product's own errors whatever is typed, and is read back as it was written", () => {
    assert(
      property(string({ unit: 'binary' }), string(), (text, tail) => {
        for (const typed of [text, `s3:${text}`, `s3:https://${tail}`, `s3:https://host/bucket/${tail}`]) {
          try {
            const location = parseLocation(typed)
            expect(parseLocation(formatLocation(location))).toEqual(location)
          } catch (error) {
            expect(isHoldfastError(error, 'usage')).toBe(true)
          }
        }
      }),
    )
  })

  test('opens the store it names', async () => {
    await expectCode(openStore('/nonexistent/holdfast'), 'store-unreachable')
    const store = await openStore('s3:https://s3.example.com/bucket/prefix', { region: 'eu-1' })
    expect(store.location).toBe('s3:https://s3.example.com/bucket/prefix')
    await store.close()
  })
})

describe('the store settings of an environment', () => {
  test('are read as the AWS tools do, our own names first', () => {
    expect(storeConfigFromEnv({})).toEqual({})
    expect(
      storeConfigFromEnv({
        HOLDFAST_S3_REGION: 'ours',
        AWS_REGION: 'theirs',
        HOLDFAST_S3_STYLE: 'virtual',
        HOLDFAST_S3_CA: '/etc/ca.pem',
        AWS_ACCESS_KEY_ID: 'k',
        AWS_SECRET_ACCESS_KEY: 's',
        AWS_SESSION_TOKEN: 't',
        AWS_PROFILE: 'p',
      }),
    ).toEqual({
      region: 'ours',
      style: 'virtual',
      caFile: '/etc/ca.pem',
      credentials: { accessKeyId: 'k', secretAccessKey: 's', sessionToken: 't' },
      profile: 'p',
    })
    expect(storeConfigFromEnv({ AWS_DEFAULT_REGION: 'eu-1', AWS_ACCESS_KEY_ID: '' })).toEqual({ region: 'eu-1' })
  })

  test.each([{ HOLDFAST_S3_STYLE: 'Path' }, { AWS_ACCESS_KEY_ID: 'k' }, { AWS_SECRET_ACCESS_KEY: 's' }, { HOLDFAST_S3_REGION: 'a b' }])(
    'are refused as %j',
    (env) => {
      expect(() => storeConfigFromEnv(env)).toThrow(expect.objectContaining({ code: 'bad-config' }))
    },
  )
})

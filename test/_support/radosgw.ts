// A real S3 server for tests: a fresh Ceph RADOS Gateway on loopback, fetched where it is missing (printed first).
import { createHash, createHmac } from 'node:crypto'
import { isoTime, systemClock } from '@holdfast/shared/clock.ts'
import type { S3Credentials } from '@holdfast/shared/store/location.ts'
import type { S3Server, S3ServerOptions } from '../../demo/s3-server.ts'
import { provideCeph, startS3Server } from '../../demo/s3-server.ts'

/** Starts a server of its own for the caller, in about two seconds; rejects where there is none to be had. */
export async function startRadosgw(options: Pick<S3ServerOptions, 'tls'> = {}): Promise<S3Server> {
  const programs = await provideCeph({ say: (line) => process.stderr.write(`${line}\n`) })
  if (programs === undefined) throw new Error('no radosgw: install ceph-mon, ceph-osd and radosgw')
  return startS3Server(programs, options)
}

/** Asks the server's STS for credentials of a role; signed as AWS Signature Version 4 defines it. */
export async function assumeRole(at: S3Server, role: string): Promise<S3Credentials> {
  const body = new URLSearchParams({ Action: 'AssumeRole', RoleArn: role, RoleSessionName: 'contract', Version: '2011-06-15' }).toString()
  const host = new URL(at.endpoint).host
  const time = isoTime(systemClock.now()).replace(/[-:]|\.\d+/g, '')
  const day = time.slice(0, 8)
  const canonical = ['POST', '/', '', `host:${host}`, `x-amz-date:${time}`, '', 'host;x-amz-date', hash(body)].join('\n')
  const scope = `${day}/us-east-1/sts/aws4_request`
  const key = sign(sign(sign(sign(`AWS4${at.secretKey}`, day), 'us-east-1'), 'sts'), 'aws4_request')
  const signature = sign(key, ['AWS4-HMAC-SHA256', time, scope, hash(canonical)].join('\n')).toString('hex')
  const reply = await fetch(at.endpoint, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      'x-amz-date': time,
      authorization: `AWS4-HMAC-SHA256 Credential=${at.accessKey}/${scope}, SignedHeaders=host;x-amz-date, Signature=${signature}`,
    },
  })
  const text = await reply.text()
  const element = (name: string): string => new RegExp(`<${name}>([^<]*)</${name}>`).exec(text)?.[1] ?? ''
  if (!reply.ok) throw new Error(`no role: ${text}`)
  return { accessKeyId: element('AccessKeyId'), secretAccessKey: element('SecretAccessKey'), sessionToken: element('SessionToken') }
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function sign(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}

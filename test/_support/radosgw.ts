// A real S3 server for tests: a fresh Ceph RADOS Gateway on loopback, fetched where it is missing (printed first).
import type { S3Server, S3ServerOptions } from '../../demo/s3-server.ts'
import { provideCeph, startS3Server } from '../../demo/s3-server.ts'

/** Starts a server of its own for the caller, in about two seconds; rejects where there is none to be had. */
export async function startRadosgw(options: Pick<S3ServerOptions, 'tls'> = {}): Promise<S3Server> {
  const programs = await provideCeph({ say: (line) => process.stderr.write(`${line}\n`) })
  if (programs === undefined) throw new Error('no radosgw: install ceph-mon, ceph-osd and radosgw')
  return startS3Server(programs, options)
}

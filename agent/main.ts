// The program `holdfast`. The only module that touches `process`: arguments, environment, streams, signals and exit code go through here, and
// everything else is given to it.
import { readFileSync, readlinkSync } from 'node:fs'
import { homedir, hostname } from 'node:os'
import { systemClock } from '@holdfast/shared/clock.ts'
import { HoldfastError } from '@holdfast/shared/errors.ts'
import { systemRandom } from '@holdfast/shared/random.ts'
import { textOfBytes } from './cli/byte-text.ts'
import { runCommandLine } from './cli/program.ts'
import type { Writer } from './cli/report.ts'
import { openTerminal } from './keys/terminal.ts'

/** The arguments as byte texts: `process.argv` has lost what is not UTF-8, the kernel has not. */
function rawArguments(): string[] {
  const decoded = process.argv.slice(2)
  // Most calls need no second look.
  if (!decoded.some((argument) => argument.includes('\ufffd'))) return decoded
  try {
    const parts: Buffer[] = []
    const line = readFileSync('/proc/self/cmdline')
    for (let from = 0, end = line.indexOf(0); end >= 0; from = end + 1, end = line.indexOf(0, from)) parts.push(line.subarray(from, end))
    return decoded.length === 0 ? [] : parts.slice(-decoded.length).map(textOfBytes)
  } catch (cause) {
    throw new HoldfastError('failed', 'a path that is not UTF-8 was named, and /proc is not there to tell its bytes', { cause })
  }
}

function workingDirectory(): Buffer {
  try {
    return readlinkSync('/proc/self/cwd', { encoding: 'buffer' })
  } catch {
    // Without /proc the name as text is the best there is.
    return Buffer.from(process.cwd())
  }
}

/** What cannot be written for another reason than that nobody reads any more, as on a full disk, `onLost` is told of once. */
function writer(stream: NodeJS.WriteStream, onLost: (why: string) => void): Writer & { writeBytes: (bytes: Uint8Array) => Promise<void> } {
  let closed = false
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // Whoever read this has gone (`holdfast ls | head`): no news for anybody. The commands look at `isClosed`.
    const isFirst = !closed
    closed = true
    if (error.code === 'EPIPE' || error.code === 'EIO') return
    process.exitCode = 1
    if (isFirst) onLost(error.code ?? error.message)
  })
  return {
    isTerminal: stream.isTTY === true,
    columns: () => (stream.columns > 0 ? stream.columns : 80),
    isClosed: () => closed,
    write: (text) => {
      if (!closed) stream.write(text)
    },
    writeBytes: (bytes) =>
      new Promise((resolve) => {
        if (closed) return resolve()
        stream.write(bytes, () => resolve())
      }),
  }
}

const abort = new AbortController()
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(name, () => {
    // The first asks the command to end cleanly; whoever asks again does not want to wait.
    if (abort.signal.aborted) process.exit(SIGNALS[name] === 129 ? 129 : 130)
    abort.abort(
      new HoldfastError(
        'cancelled',
        `interrupted by ${name}; nothing half-done counts, and a backup goes on from here when it is run again`,
      ),
    )
  })

const crashed = new Promise<never>((_, reject) => process.once('uncaughtException', reject))
// Nobody may be waiting yet when it happens.
crashed.catch(() => undefined)

const stderr = writer(process.stderr, () => undefined)
const stdout = writer(process.stdout, (why) =>
  stderr.write(
    `holdfast: standard output cannot be written (${why}): not all of the answer is there; give it a place and run this again\n`,
  ),
)
const code = await runCommandLine({
  argv: rawArguments(),
  env: process.env,
  cwd: workingDirectory(),
  home: homedir(),
  hostName: hostname(),
  uid: process.getuid?.(),
  stdout,
  stderr,
  signal: abort.signal,
  crashed,
  // With a listener of ours, Node opens no debugger on this signal.
  onShowProgress: (show) => void process.on('SIGUSR1', show),
  terminal: openTerminal,
  clock: systemClock,
  random: systemRandom,
})
// Everything is closed by now; what a library still keeps alive (an idle connection) must not keep the process.
await stdout.writeBytes(new Uint8Array(0))
process.exit(code === 0 && process.exitCode === 1 ? 1 : code)

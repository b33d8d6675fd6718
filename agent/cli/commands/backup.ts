// `holdfast backup PATH…`: one run of the engine with what the command line says. On an enrolled agent it writes with the bundle's keys and
// opens nothing; elsewhere the passphrase opens the root, and the run uses its write keys alone.
import { readFileSync } from 'node:fs'
import { isatty } from 'node:tty'
import { HoldfastError, isHoldfastError, messageOf, printable } from '@holdfast/shared/errors.ts'
import type { Command } from 'commander'
import type { BackupLimits, BackupOptions, BackupResult, BackupSource } from '../../backup/backup-types.ts'
import { runBackup } from '../../backup/run.ts'
import { posixFileSystem } from '../../file-system/posix-file-system.ts'
import { createTokens } from '../../repository/snapshot.ts'
import { isEntryName } from '../../repository/tree.ts'
import type { AgentIdentity } from '../agent-identity.ts'
import { bytesOfText, pathFields, shownBytes } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { collect } from '../options.ts'
import { parseSize, parseWhole } from '../format.ts'
import { withRepository } from '../open.ts'
import { absolutePath } from '../paths.ts'
import { problemWords } from '../problem-words.ts'
import { VERSION } from '../version.ts'

type BackupFlags = {
  readonly tag?: readonly string[]
  readonly force?: boolean
  readonly exclude?: readonly string[]
  readonly excludeFile?: readonly string[]
  readonly excludeCaches?: boolean
  readonly oneFileSystem?: boolean
  readonly excludeLargerThan?: string
  readonly stdin?: string
  readonly host?: string
  readonly label?: string
  readonly state?: string
  readonly workers?: string
  readonly compression?: string
  readonly uploadLimit?: string
}

const EXCLUDE_FILE_BYTES_MAX = 1024 * 1024
const LABEL_LENGTH_MAX = 255

export function define(command: Command, start: Start): void {
  command
    .description('Backs up files and directories as one snapshot. Data goes up sealed and only what the repository does not have yet.')
    .argument('[path...]', 'what to back up')
    .option('--tag <tag>', 'a word to find the snapshot by (again for more)', collect)
    .option('--force', 'read every file again, also those that seem unchanged')
    .option('--exclude <pattern>', 'leave out what matches, in gitignore syntax, rooted at / (again for more)', collect)
    .option('--exclude-file <file>', 'a file of such patterns, one a line (again for more)', collect)
    .option('--exclude-caches', 'leave out the content of directories with a CACHEDIR.TAG')
    .option('--one-file-system', 'do not cross into other file systems')
    .option('--exclude-larger-than <size>', 'leave out files larger than this, such as 500M')
    .option('--stdin <name>', 'back up standard input as one file of this name')
    .option('--host <name>', "the host to write into the snapshot (else this machine's)")
    .option('--label <label>', 'names the series of snapshots (else host and paths)')
    .option('--state <directory>', 'where the run keeps its spool and cache (else below ~/.local/state/holdfast)')
    .option('--workers <n>', 'threads that read and compress')
    .option('--compression <level>', 'zstd level, 1 to 19')
    .option('--upload-limit <rate>', 'bytes a second to an S3 store, such as 2M')
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast backup /srv/data --tag daily --exclude '*.tmp' --one-file-system
  $ holdfast backup ~/documents ~/pictures --exclude-caches
  $ pg_dump shop | holdfast backup --stdin shop.sql --label shop-database

A file that changes while it is read, by what its size and times tell, vanishes or cannot be read is named, and the run
ends with 3: the snapshot is there, without it. A source that is missing or suddenly empty makes no snapshot. An interrupted run goes on where it
was when the same command is run again.`,
    )
    .action((paths: readonly string[], flags: BackupFlags) => start('backup', (context) => backup(context, paths, flags)))
}

async function backup(context: Context, names: readonly string[], flags: BackupFlags): Promise<Outcome> {
  const { report, dryRun } = context
  const source = sourceOf(context, names, flags)
  const limits = limitsOf(flags)
  const tags = checkedTags(flags.tag ?? [])
  const uploadBytesPerSecond = flags.uploadLimit === undefined ? undefined : Math.max(1, parseSize(flags.uploadLimit, '--upload-limit'))
  return withRepository(
    context,
    'write',
    async ({ repository, holder }) => {
      const series = createTokens(holder.structure.recordKey).series(holder.write.writer.id, source.label)
      const options: BackupOptions = {
        repository,
        keys: holder.write,
        source,
        tags,
        force: flags.force === true,
        dryRun,
        state: stateDirectory(context, flags, holder.write.structure.domainId, series),
        program: `holdfast ${VERSION}`,
        fileSystem: posixFileSystem,
        clock: context.clock,
        random: context.random,
        limits,
        signal: context.signal,
        onProgress: (progress) =>
          report.progress({
            phase: progress.phase,
            files: progress.files,
            bytes: progress.bytes,
            newBytes: progress.newBytes,
            uploadedBytes: progress.uploadedBytes,
            problems: progress.problems,
            ...(progress.expectedFiles === undefined ? {} : { totalFiles: progress.expectedFiles }),
            ...(progress.expectedBytes === undefined ? {} : { totalBytes: progress.expectedBytes }),
          }),
        onNotice: (text) => report.say({ event: 'notice', level: 'warning', message: text }),
      }
      const result =
        holder.kind === 'agent' && !dryRun ? await runJournalled(context, holder.agent, options, series) : await runBackup(options)
      for (const { path, code } of result.problems) report.say({ event: 'problem', ...pathFields(path), code, message: problemWords(code) })
      const { summary, snapshot } = result
      const isUnchanged = result.hasFilesOfLast && summary.filesNew === 0 && summary.filesChanged === 0 && summary.bytesNew === 0
      return {
        result: result.outcome === 'incomplete' ? 'incomplete' : isUnchanged ? 'unchanged' : 'done',
        repository: repository.store.location,
        domainId: repository.description.domainId.toString('hex'),
        ...(snapshot === undefined ? {} : { snapshotId: snapshot.ref.random }),
        counts: { ...summary },
      }
    },
    { uploadBytesPerSecond, copies: true },
  )
}

/** On an enrolled appliance every transmission is journalled before the run goes on (O4), whoever asked for it. */
async function runJournalled(context: Context, agent: AgentIdentity, options: BackupOptions, series: Buffer): Promise<BackupResult> {
  context.report.say({ event: 'notice', level: 'note', message: `backing up as enrolled agent ${agent.agent.agentId}` })
  const stateDirectory = agent.directory.path
  agent.directory.close()
  const { journalLocalRun } = await import('../../daemon/local-run.ts')
  const { readAgentConfig } = await import('../agent-config-file.ts')
  const run = journalLocalRun({
    fileSystem: posixFileSystem,
    clock: context.clock,
    random: context.random,
    stateDirectory,
    config: readAgentConfig(context).config,
    ...(context.uid === undefined ? {} : { uid: context.uid }),
    source: options.source,
    series: series.toString('hex'),
    location: options.repository.store.location,
    recordKey: options.repository.keys.recordKey,
  })
  let result: BackupResult
  try {
    result = await runBackup({ ...options, onTransmitted: run.transmitted })
  } catch (error) {
    const isCancelled = context.signal.aborted || isHoldfastError(error, 'cancelled')
    run.failed(isCancelled ? 'cancelled' : 'failed', isCancelled ? 'cancelled' : isHoldfastError(error) ? error.code : 'failed')
    throw error
  }
  run.done(result)
  return result
}

function sourceOf(context: Context, names: readonly string[], flags: BackupFlags): BackupSource {
  const host = checkedText(flags.host ?? context.hostName, '--host')
  const excludes = {
    patterns: [...(flags.exclude ?? []), ...(flags.excludeFile ?? []).flatMap((file) => patternsOf(context, file))],
    cacheDirectories: flags.excludeCaches === true,
    oneFileSystem: flags.oneFileSystem === true,
    ...(flags.excludeLargerThan === undefined ? {} : { largerThanBytes: parseSize(flags.excludeLargerThan, '--exclude-larger-than') }),
  }
  if (flags.stdin !== undefined) {
    if (names.length > 0) throw new HoldfastError('usage', 'with --stdin no paths are backed up; use two runs')
    const name = bytesOfText(flags.stdin)
    if (!isEntryName(name))
      throw new HoldfastError('usage', `'${shownBytes(name)}' cannot be the name of a file: 1 to 255 bytes without a slash`)
    return {
      label: checkedText(flags.label ?? labelOf(host, [name]), '--label'),
      host,
      paths: [],
      excludes,
      stdin: { name, fd: standardInput() },
    }
  }
  if (names.length === 0) throw new HoldfastError('usage', 'name what to back up: holdfast backup PATH…, or --stdin NAME')
  const unique = new Map(
    names.map((name) => {
      const path = absolutePath(context.cwd, bytesOfText(name))
      return [path.toString('latin1'), path]
    }),
  )
  const paths = [...unique.values()].sort(Buffer.compare)
  return { label: checkedText(flags.label ?? labelOf(host, paths), '--label'), host, paths, excludes }
}

/** The series of a source that was not given one: the same paths of the same host go on where the last run ended. */
function labelOf(host: string, paths: readonly Buffer[]): string {
  const whole = `${host}:${paths.map(shownBytes).join(',')}`
  if (whole.length <= LABEL_LENGTH_MAX) return whole
  // Long lists are told apart by a hash of the whole; it is for this machine only and keeps nothing secret.
  const tail = `,…${paths.length}#${stableHash(whole)}`
  return whole.slice(0, LABEL_LENGTH_MAX - tail.length) + tail
}

/** FNV-1a over UTF-16 units, twice with other starts: 64 bits, to tell labels of one person apart. */
function stableHash(text: string): string {
  return [0x811c9dc5, 0x01234567]
    .map((start) => {
      let hash = start
      for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193) >>> 0
      return hash.toString(16).padStart(8, '0')
    })
    .join('')
}

function checkedText(text: string, what: string): string {
  if (text === '' || text.length > LABEL_LENGTH_MAX || !text.isWellFormed())
    throw new HoldfastError('usage', `${what} must be 1 to ${LABEL_LENGTH_MAX} characters of text`)
  return text
}

function checkedTags(tags: readonly string[]): readonly string[] {
  if (tags.length > 100) throw new HoldfastError('usage', 'a snapshot has at most 100 tags')
  for (const tag of tags) {
    checkedText(tag, '--tag')
    if (printable(tag) !== tag) throw new HoldfastError('usage', `the tag '${printable(tag)}' holds control characters`)
  }
  return tags
}

function limitsOf(flags: BackupFlags): Partial<BackupLimits> {
  return {
    ...(flags.workers === undefined ? {} : { workers: parseWhole(flags.workers, '--workers', 1, 64) }),
    ...(flags.compression === undefined ? {} : { compressionLevel: parseWhole(flags.compression, '--compression', 1, 19) }),
  }
}

function patternsOf(context: Context, file: string): string[] {
  const path = absolutePath(context.cwd, bytesOfText(file))
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (cause) {
    throw new HoldfastError('usage', `the exclude file ${shownBytes(path)} cannot be read (${messageOf(cause)})`, { cause })
  }
  if (bytes.length > EXCLUDE_FILE_BYTES_MAX) throw new HoldfastError('usage', `the exclude file ${shownBytes(path)} is over 1 MiB`)
  return bytes
    .toString('utf8')
    .split(/\r?\n/)
    .filter((line) => line.trim() !== '' && !line.startsWith('#'))
}

/** Standard input, or a refusal where a person would sit before a program that seems to hang. */
function standardInput(): number {
  if (isatty(0)) throw new HoldfastError('usage', '--stdin needs something to read: pipe it in, or < FILE')
  return 0
}

/** Each source of each domain has a state of its own, so that two backups run side by side. Its name says nothing of the source. */
function stateDirectory(context: Context, flags: BackupFlags, domainId: Buffer, series: Buffer): Buffer {
  if (flags.state !== undefined) return absolutePath(context.cwd, bytesOfText(flags.state))
  return Buffer.from(`${context.settings.stateHome}/holdfast/${domainId.toString('hex')}/${series.toString('hex').slice(0, 32)}`)
}

// `holdfast dump SNAPSHOT PATH`: the content of one file to standard output or into a file.
import { closeSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs'
import { HoldfastError, messageOf } from '@holdfast/shared/errors.ts'
import type { Command } from 'commander'
import { dumpFile } from '../../restore/dump.ts'
import { bytesOfText, pathFields, shownBytes } from '../byte-text.ts'
import type { Context, Outcome, Start } from '../context.ts'
import { type Recovery, withRecovery } from '../local-recovery.ts'
import { rootOf, withRepository } from '../open.ts'
import { absolutePath } from '../paths.ts'
import { chooseSnapshot } from '../snapshot-choice.ts'
import { wholeViewPast } from '../../restore/read-past.ts'

type DumpFlags = { readonly output?: string }

export function define(command: Command, start: Start): void {
  command
    .description('Writes the content of one file of a snapshot to standard output. Every part is verified before it is written.')
    .argument('<snapshot>', "an id, the beginning of one, or 'latest'")
    .argument('<path>', 'a file, as ls shows it')
    .option('-o, --output <file>', 'write to this new file instead; needed with --json, whose events take standard output')
    .addHelpText(
      'after',
      `
Examples:
  $ holdfast dump latest /var/backups/shop.sql | psql shop
  $ holdfast dump 3f2a /etc/fstab --output fstab.old`,
    )
    .action((snapshot: string, path: string, flags: DumpFlags) => start('dump', (context) => dump(context, snapshot, path, flags)))
}

type Sink = { readonly write: (bytes: Uint8Array) => Promise<void>; readonly finish: () => void; readonly close: () => void }

async function dump(context: Context, name: string, text: string, flags: DumpFlags): Promise<Outcome> {
  if (context.options.json === true && flags.output === undefined)
    throw new HoldfastError('usage', 'with --json the events take standard output: name a file for the content with --output')
  const path = absolutePath(context.cwd, bytesOfText(text))
  return withRepository(context, { need: 'read', lost: 'notice' }, async ({ repository, holder }) => {
    const keys = rootOf(holder).read
    const snapshot = await chooseSnapshot(context, repository, name)
    const { view } = await wholeViewPast(repository, context.signal)
    const work = async (recovery: Recovery): Promise<Outcome> => {
      const sink = context.dryRun
        ? nowhere
        : flags.output === undefined
          ? standardOutput(context)
          : newFile(absolutePath(context.cwd, bytesOfText(flags.output)))
      try {
        const bytes = await dumpFile({ repository, view, keys, snapshot, path, write: sink.write, signal: context.signal })
        sink.finish()
        recovery.files([{ path, size: bytes, newBytes: bytes, outcome: 'ok' }])
        return {
          // A reader that went away got the beginning only.
          result: context.report.isClosed() ? 'incomplete' : 'done',
          repository: repository.store.location,
          snapshotId: snapshot.structure.ref.random,
          ...(flags.output === undefined ? {} : { target: pathFields(absolutePath(context.cwd, bytesOfText(flags.output))) }),
          counts: { files: 1, bytes },
        }
      } finally {
        sink.close()
      }
    }
    return withRecovery(context, { repository, snapshot, dryRun: context.dryRun }, work, ({ result }) => result !== 'done')
  })
}

const nowhere: Sink = { write: async () => undefined, finish: () => undefined, close: () => undefined }

function standardOutput(context: Context): Sink {
  return {
    write: async (bytes) => {
      if (context.report.isClosed()) return
      await context.writeBytes(bytes)
    },
    finish: () => undefined,
    close: () => undefined,
  }
}

/** A file that must not be there yet, so that no typing error costs one. It is made with the first byte, and taken away where the rest fails. */
function newFile(path: Buffer): Sink {
  const failed = (cause: unknown): HoldfastError =>
    new HoldfastError(
      'local-disk',
      `cannot write ${shownBytes(path)} (${messageOf(cause)}); name a new file in a directory that can be written`,
      { cause },
    )
  let fd: number | undefined
  let isWhole = false
  const guarded = (act: (fd: number) => void): void => {
    try {
      act((fd ??= openSync(path, 'wx', 0o600)))
    } catch (cause) {
      throw failed(cause)
    }
  }
  return {
    write: async (bytes) =>
      guarded((file) => {
        for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at)
      }),
    finish: () => {
      guarded(fsyncSync)
      isWhole = true
    },
    close: () => {
      if (fd === undefined) return
      closeSync(fd)
      if (!isWhole) rmSync(path)
    },
  }
}

// Questions on the controlling terminal with the answer not shown, also where standard input is data and standard output is a pipe.
import { closeSync, openSync } from 'node:fs'
import { StringDecoder } from 'node:string_decoder'
import { ReadStream } from 'node:tty'
import { HoldfastError } from '@holdfast/shared/errors.ts'

export type Terminal = {
  /** The line that was typed, without its end, not shown while it is typed. Throws `cancelled` for Ctrl-C. */
  readonly askSecret: (question: string) => Promise<string>
  readonly say: (line: string) => void
}

/** What `terminalOn` needs of a terminal; a tty ReadStream and WriteStream have it. */
export type RawInput = {
  setRawMode(on: boolean): unknown
  on(event: 'data', listener: (bytes: Buffer) => void): unknown
  on(event: 'end' | 'close', listener: () => void): unknown
  on(event: 'error', listener: (error: Error) => void): unknown
  removeAllListeners(): unknown
  resume(): unknown
  pause(): unknown
}

/** Where to ask, or undefined where the process has no controlling terminal (a service, cron, a container without one). */
export function openTerminal(show: (text: string) => void): Terminal | undefined {
  const path = '/dev/tty'
  try {
    closeSync(openSync(path, 'r+'))
  } catch {
    // Whatever the reason, there is nobody to ask; the caller says what to set instead.
    return undefined
  }
  return {
    say: (line) => show(`${line}\n`),
    askSecret: async (question) => {
      const input = new ReadStream(openSync(path, 'r+'))
      try {
        return await terminalOn(input, show).askSecret(question)
      } finally {
        input.destroy()
      }
    },
  }
}

/** A terminal over the given streams: the part that reads keys, for any source of them. */
export function terminalOn(input: RawInput, show: (text: string) => void): Terminal {
  return {
    say: (line) => show(`${line}\n`),
    askSecret: (question) =>
      new Promise((resolve, reject) => {
        const line = new LineEditor()
        const decoder = new StringDecoder('utf8')
        const finish = (settle: () => void): void => {
          input.removeAllListeners()
          input.setRawMode(false)
          input.pause()
          show('\n')
          settle()
        }
        const giveUp = (): void => finish(() => reject(new HoldfastError('cancelled', 'The question was not answered.')))
        show(question)
        // Raw mode, so that nothing is echoed; Ctrl-C and Ctrl-D then arrive as characters and are handled by the editor.
        input.setRawMode(true)
        input.on('data', (bytes) => {
          const outcome = line.type(decoder.write(bytes))
          if (outcome === 'done') finish(() => resolve(line.text))
          else if (outcome === 'cancelled') giveUp()
        })
        input.on('end', giveUp)
        input.on('close', giveUp)
        input.on('error', (error) => finish(() => reject(new HoldfastError('failed', 'The terminal cannot be read.', { cause: error }))))
        input.resume()
      }),
  }
}

/** One line as typed: backspace takes back a character, Ctrl-U all of them; Enter or Ctrl-D ends it, Ctrl-C gives up. */
class LineEditor {
  #characters: string[] = []

  get text(): string {
    return this.#characters.join('')
  }

  type(typed: string): 'more' | 'done' | 'cancelled' {
    for (const character of typed) {
      if (character === '\r' || character === '\n' || character === '\u0004') return 'done'
      if (character === '\u0003') return 'cancelled'
      if (character === '\u007f' || character === '\b') this.#characters.pop()
      else if (character === '\u0015') this.#characters = []
      else if (this.#characters.length < 4096) this.#characters.push(character)
    }
    return 'more'
  }
}

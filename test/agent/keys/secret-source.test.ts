// Where secrets come from: one variable at a time, files and commands bounded, a terminal that shows nothing.
import { EventEmitter } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { readSecret } from '../../../agent/keys/secret-source.ts'
import type { SecretRequest } from '../../../agent/keys/secret-source.ts'
import { terminalOn } from '../../../agent/keys/terminal.ts'

const folder = mkdtempSync(join(tmpdir(), 'holdfast-secret-'))
afterAll(() => rmSync(folder, { recursive: true }))
const code = (name: string) => expect.objectContaining({ code: name })
const PATH = '/usr/bin:/bin'

function read(env: Record<string, string>, more: Partial<SecretRequest> = {}) {
  return readSecret({ env, terminal: undefined, purpose: 'open', ...more })
}

function file(content: string | Buffer): string {
  const path = join(folder, `secret-${content.length}-${Buffer.from(content).subarray(0, 8).toString('hex')}`)
  writeFileSync(path, content)
  return path
}

function scripted(...answers: string[]) {
  const questions: string[] = []
  const said: string[] = []
  const terminal = {
    askSecret: (question: string) => {
      questions.push(question)
      return Promise.resolve(answers.shift() ?? '')
    },
    say: (line: string) => void said.push(line),
  }
  return { terminal, questions, said }
}

/** What the question gives when these keys are typed, and that nothing of them was shown. */
async function typed(...keys: (string | Buffer)[]): Promise<unknown> {
  const input = Object.assign(new EventEmitter(), { raw: [] as boolean[], resume: () => {}, pause: () => {} })
  const keyboard = Object.assign(input, { setRawMode: (on: boolean) => void input.raw.push(on) })
  let shown = ''
  const answer = terminalOn(keyboard, (text) => (shown += text)).askSecret('Passphrase: ')
  for (const key of keys) keyboard.emit('data', Buffer.from(key))
  const result = await answer.catch((error: unknown) => error)
  expect(shown).toBe('Passphrase: \n')
  expect(input.raw).toEqual([true, false])
  expect(keyboard.listenerCount('data')).toBe(0)
  return result
}

describe('a secret from the environment', () => {
  it('is the value itself, with nothing taken off', async () => {
    expect(await read({ HOLDFAST_PASSWORD: ' a b\n' })).toEqual({ passphrase: ' a b\n' })
    expect(await read({ HOLDFAST_RECOVERY_CODE: '1234-5678' })).toEqual({ recoveryCode: '1234-5678' })
    expect(await read({ HOLDFAST_NEW_PASSWORD: 'n', HOLDFAST_PASSWORD: 'o' }, { prefix: 'HOLDFAST_NEW' })).toEqual({ passphrase: 'n' })
  })

  it('is a file’s content without the one newline at its end', async () => {
    expect(await read({ HOLDFAST_PASSWORD_FILE: file('from file\n') })).toEqual({ passphrase: 'from file' })
    expect(await read({ HOLDFAST_PASSWORD_FILE: file('two\n\n') })).toEqual({ passphrase: 'two\n' })
    expect(await read({ HOLDFAST_PASSWORD_FILE: file('dos\r\n') })).toEqual({ passphrase: 'dos' })
    expect(await read({ HOLDFAST_PASSWORD_FILE: file('none') })).toEqual({ passphrase: 'none' })
  })

  it('is a command’s output, run by a shell with the environment that was handed in', async () => {
    expect(await read({ PATH, HOLDFAST_PASSWORD_COMMAND: 'printf "%s " "one word"; echo "$NAME"', NAME: 'x' })).toEqual({
      passphrase: 'one word x',
    })
    expect(await read({ PATH, HOLDFAST_PASSWORD_COMMAND: 'cat; echo nothing to read' })).toEqual({ passphrase: 'nothing to read' })
  })

  it('is refused where two variables are set, or one is empty', async () => {
    await expect(read({ HOLDFAST_PASSWORD: 'a', HOLDFAST_PASSWORD_FILE: 'b' })).rejects.toThrow(code('usage'))
    await expect(read({ HOLDFAST_PASSWORD: 'a', HOLDFAST_RECOVERY_CODE: 'b' })).rejects.toThrow(code('usage'))
    for (const name of ['PASSWORD', 'PASSWORD_FILE', 'PASSWORD_COMMAND', 'RECOVERY_CODE']) {
      await expect(read({ [`HOLDFAST_${name}`]: '' })).rejects.toThrow(code('usage'))
    }
    await expect(read({ HOLDFAST_PASSWORD_FILE: file('\n') })).rejects.toThrow(code('usage'))
    await expect(read({ PATH, HOLDFAST_PASSWORD_COMMAND: 'true' })).rejects.toThrow(code('usage'))
  })

  it('is refused where the file or command fails, without repeating the command', async () => {
    await expect(read({ HOLDFAST_PASSWORD_FILE: join(folder, 'absent') })).rejects.toThrow(code('bad-config'))
    await expect(read({ HOLDFAST_PASSWORD_FILE: folder })).rejects.toThrow(code('bad-config'))
    await expect(read({ HOLDFAST_PASSWORD_FILE: file(Buffer.alloc(70_000, 97)) })).rejects.toThrow(code('bad-config'))
    await expect(read({ HOLDFAST_PASSWORD_FILE: file(Buffer.from([0x70, 0xff])) })).rejects.toThrow(/not UTF-8/)
    await expect(read({ PATH, HOLDFAST_PASSWORD_COMMAND: 'echo hush; exit 3' })).rejects.toThrow(
      expect.objectContaining({ code: 'bad-config', message: expect.not.stringContaining('hush') }),
    )
    await expect(read({ PATH, HOLDFAST_PASSWORD_COMMAND: 'kill -9 $$' })).rejects.toThrow(/SIGKILL/)
    await expect(read({ PATH, HOLDFAST_PASSWORD_COMMAND: 'yes 2>/dev/null' })).rejects.toThrow(/more than 65536 bytes/)
  })

  it('takes no recovery code where a new passphrase is asked for', async () => {
    await expect(read({ HOLDFAST_RECOVERY_CODE: 'x' }, { purpose: 'new' })).rejects.toThrow(/no terminal to ask on/)
  })
})

describe('a secret from the terminal', () => {
  it('is asked for once to open, twice when new', async () => {
    const once = scripted('secret')
    expect(await read({}, { terminal: once.terminal })).toEqual({ passphrase: 'secret' })
    expect(once.questions.length).toBe(1)
    const twice = scripted('a', 'b', 'c', 'c')
    expect(await read({}, { terminal: twice.terminal, purpose: 'new' })).toEqual({ passphrase: 'c' })
    expect(twice.said).toEqual(['The two were not the same.'])
  })

  it('is given up on after three empty answers, and not asked for without a terminal', async () => {
    const { terminal, questions } = scripted()
    await expect(read({}, { terminal })).rejects.toThrow(code('usage'))
    expect(questions.length).toBe(3)
    await expect(read({})).rejects.toThrow(code('usage'))
  })

  it('is not shown while it is typed, and can be corrected', async () => {
    expect(await typed('secret\r')).toBe('secret')
    expect(await typed('s', 'x\u007fe', '\n')).toBe('se')
    expect(await typed('wrong\u0015right\r')).toBe('right')
    expect(await typed(Buffer.from([0xc3]), Buffer.from([0xa9]), '\u0004')).toBe('é')
    expect(await typed('🐚\u007fa\r')).toBe('a')
    expect(await typed('sec\u0003')).toEqual(code('cancelled'))
  })
})

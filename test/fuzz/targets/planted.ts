// A target with bugs that were planted, to try the fuzzer itself. It is run only where it is asked for by name.
import { readPlanted } from '../_support/planted-parser.ts'
import { judged, type Target } from '../_support/target.ts'

export const planted: Target = {
  name: 'planted',
  about: 'bugs that were planted, to try the fuzzer itself',
  form: 'bytes',
  covers: ['test/fuzz/_support/planted-parser.ts'],
  weight: 1,
  bytesMax: 64,
  seeds: () => [Buffer.from('a harmless input')],
  run: (input) => {
    fail(input.toString('latin1'))
    return judged(() => readPlanted(input))
  },
}

/** The kinds of failure that are no exception, each for an input that nobody comes upon. */
function fail(how: string): void {
  if (how === 'hang') for (;;);
  if (how === 'bomb') Buffer.alloc(2 ** 26 + 1)
  if (how === 'late')
    setImmediate(() => {
      throw new Error('a late failure')
    })
}

// What a promise ends with, in one word, for tests that ask for the code of an error and nothing else.
import { isHoldfastError } from '@holdfast/shared/errors.ts'

export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'no error'
  } catch (error) {
    return isHoldfastError(error) ? error.code : String(error)
  }
}

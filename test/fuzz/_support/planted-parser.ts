// A parser with a planted bug, which only an input reaches that comes nearer step by step.

export function readPlanted(input: Buffer): void {
  if (input[0] === 0x62) {
    if (input[1] === 0x75) {
      if (input[2] === 0x67) throw new RangeError('the planted bug')
    }
  }
}

// The README shows what was measured last, and nothing else.
import { expect, test } from 'vitest'
import { reliabilityTable, tableInReadme } from './reliability-table.ts'

test('the reliability table of the README is what the soak and the mutation tests kept last', () => {
  expect(tableInReadme(), 'node test/soak/reliability-table.ts writes it').toBe(reliabilityTable())
})

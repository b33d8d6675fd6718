// Trees of fidelity cases: made by one run of bash, compared case by case. A case has a directory of its own, named by its number.
import { mkdirSync } from 'node:fs'
import { EXCLUDED_SUFFIX, type FidelityCase } from './fidelity-cases.ts'
import { runProgram } from './processes.ts'
import { compareManifests, type ManifestEntry } from './tree-manifest.ts'

export type NumberedCase = FidelityCase & { readonly directory: string }
type Manifest = ReadonlyMap<string, ManifestEntry>

export function numbered(cases: readonly FidelityCase[]): NumberedCase[] {
  return cases.map((one, i) => ({ ...one, directory: String(i + 1).padStart(3, '0') }))
}

/** Makes each case in `top`, an existing directory. Rejects, with what bash said, where one cannot be made: nothing is left out in silence. */
export async function makeCases(top: string, outside: string, cases: readonly NumberedCase[]): Promise<void> {
  mkdirSync(outside, { recursive: true })
  const one = ({ directory, name, make }: NumberedCase): string => `
mkdir ${directory}
(set -e; cd ${directory}
${make}
) 2>"$OUTSIDE/said"
[ $? = 0 ] || { printf '%s\\n' ${quoted(`${name}:`)}; cat "$OUTSIDE/said"; }
touch -d @1000000000.000000001 ${directory}`
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8', TZ: 'UTC', OUTSIDE: outside }
  const { code, stdout, stderr } = await runProgram('bash', ['-s'], { cwd: top, env, input: `umask 022\n${cases.map(one).join('\n')}\n` })
  if (code !== 0 || stdout !== '' || stderr !== '') throw new Error(`cases that could not be made:\n${stdout}${stderr}`)
}

/** What differs in each case, in the order of the cases; `left` tells of entries or properties that are not looked at. */
export function differencesByCase(
  cases: readonly NumberedCase[],
  before: Manifest,
  after: Manifest,
  options: { flags?: boolean; dataMaps?: boolean } = {},
): Map<NumberedCase, string[]> {
  const seen = (manifest: Manifest): Map<string, Manifest> => byCase(manifest, options)
  const [one, other] = [seen(before), seen(after)]
  const none: Manifest = new Map()
  return new Map(
    cases.map((each) => [each, compareManifests(one.get(each.directory) ?? none, other.get(each.directory) ?? none, { top: true })]),
  )
}

/** Sockets and what is excluded are no part of a case, nor links of which one name alone is left. */
function byCase(
  manifest: Manifest,
  { flags = true, dataMaps = true }: { flags?: boolean; dataMaps?: boolean },
): Map<string, Map<string, ManifestEntry>> {
  const cases = new Map<string, Map<string, ManifestEntry>>()
  const groups = new Map<string, string[]>()
  const kept = [...manifest.values()].filter(({ path, kind }) => path !== '' && kind !== 's' && !path.endsWith(EXCLUDED_SUFFIX))
  for (const { hardLinkGroup, path } of kept)
    if (hardLinkGroup !== '') groups.set(hardLinkGroup, [...(groups.get(hardLinkGroup) ?? []), path])
  for (const entry of kept) {
    const [directory = ''] = entry.path.split('/', 1)
    const group = groups.get(entry.hardLinkGroup) ?? []
    const part = cases.get(directory) ?? new Map<string, ManifestEntry>()
    cases.set(directory, part)
    part.set(entry.path, {
      ...entry,
      hardLinkGroup: group.length > 1 ? (group[0] ?? '') : '',
      flags: flags ? entry.flags : '',
      dataMap: dataMaps ? entry.dataMap : '',
    })
  }
  return cases
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}

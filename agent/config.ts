// The environment of `holdfast` as typed settings. One table names every variable; it is what help prints, and what is not in it is refused,
// because a misspelt variable that is silently ignored is a backup without its password or with the wrong store.
import { HoldfastError, printable } from '@holdfast/shared/errors.ts'
import { closest } from './cli/closest.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export type VariableGroup = 'repository' | 'secrets' | 'server' | 'places'
type Variable = { readonly group: VariableGroup; readonly meaning: string }

/** Every variable of this program. The secrets among them are read where they are needed, and never kept here. */
export const VARIABLES = {
  HOLDFAST_REPO: { group: 'repository', meaning: 'the repository: a directory, or s3:https://host[:port]/bucket[/prefix]' },
  HOLDFAST_S3_REGION: { group: 'repository', meaning: 'region of the bucket (else AWS_REGION, AWS_DEFAULT_REGION)' },
  HOLDFAST_S3_STYLE: { group: 'repository', meaning: 'path (https://host/bucket, the default) or virtual (https://bucket.host)' },
  HOLDFAST_S3_CA: { group: 'repository', meaning: "PEM file of the authority that signed the store's certificate" },
  HOLDFAST_PASSWORD: { group: 'secrets', meaning: 'the passphrase' },
  HOLDFAST_PASSWORD_FILE: { group: 'secrets', meaning: 'a file that holds it' },
  HOLDFAST_PASSWORD_COMMAND: { group: 'secrets', meaning: 'a command that prints it' },
  HOLDFAST_RECOVERY_CODE: { group: 'secrets', meaning: 'the recovery code, in place of a passphrase' },
  HOLDFAST_NEW_PASSWORD: { group: 'secrets', meaning: 'the new passphrase, for key add and key passwd' },
  HOLDFAST_NEW_PASSWORD_FILE: { group: 'secrets', meaning: 'a file that holds it' },
  HOLDFAST_NEW_PASSWORD_COMMAND: { group: 'secrets', meaning: 'a command that prints it' },
  HOLDFAST_SERVER: { group: 'server', meaning: 'the control server, https://host[:port]' },
  HOLDFAST_SERVER_CA: { group: 'server', meaning: "PEM file of the authority that signed the server's certificate" },
  HOLDFAST_TOKEN: { group: 'server', meaning: "the controller's API token" },
  HOLDFAST_TOKEN_FILE: { group: 'server', meaning: 'a file that holds it' },
  HOLDFAST_TOKEN_COMMAND: { group: 'server', meaning: 'a command that prints it' },
  HOLDFAST_DOMAIN_DIR: { group: 'places', meaning: "the domain's directory, with its key files" },
  HOLDFAST_AGENT_CONFIG: { group: 'places', meaning: "the appliance's agent.json (else in the agent's directory, or /etc/holdfast)" },
  HOLDFAST_AGENT_DIR: { group: 'places', meaning: 'the state of an enrolled agent (else /var/lib/holdfast where it is there)' },
} as const satisfies Readonly<Record<string, Variable>>
export type VariableName = keyof typeof VARIABLES

/** These belong to `holdfast-server`, which may run with the same environment. */
const SERVER_PROGRAM_PREFIX = 'HOLDFAST_SERVER_'

export type Settings = {
  readonly repo: string | undefined
  readonly server: string | undefined
  readonly serverCaFile: string | undefined
  readonly domainDirectory: string | undefined
  readonly agentDirectory: string | undefined
  readonly agentConfig: string | undefined
  /** `$XDG_STATE_HOME`, or `~/.local/state`. */
  readonly stateHome: string
  /** `$XDG_CACHE_HOME`, or `~/.cache`. */
  readonly cacheHome: string
  /** `$XDG_CONFIG_HOME`, or `~/.config`. */
  readonly configHome: string
}

/** Reads the settings. Rejects with `bad-config`, naming everything that is wrong at once, never a value. */
export function readSettings(env: Environment, home: string): Settings {
  const problems = unknownVariables(env)
  for (const name of ['HOLDFAST_DOMAIN_DIR', 'HOLDFAST_AGENT_DIR', 'HOLDFAST_AGENT_CONFIG'] as const) {
    const value = env[name]
    if (value !== undefined && value !== '' && !value.startsWith('/')) problems.push(`${name} must be an absolute path`)
  }
  if (problems.length > 0)
    throw new HoldfastError('bad-config', `${problems.join('; ')}. Correct or unset ${problems.length === 1 ? 'it' : 'them'}.`)
  const value = (name: VariableName): string | undefined => (env[name] === '' ? undefined : env[name])
  // The XDG specification: a value that is not absolute counts as not set.
  const base = (name: string, otherwise: string): string => (env[name]?.startsWith('/') === true ? env[name] : `${home}/${otherwise}`)
  return {
    repo: value('HOLDFAST_REPO'),
    server: value('HOLDFAST_SERVER'),
    serverCaFile: value('HOLDFAST_SERVER_CA'),
    domainDirectory: value('HOLDFAST_DOMAIN_DIR'),
    agentDirectory: value('HOLDFAST_AGENT_DIR'),
    agentConfig: value('HOLDFAST_AGENT_CONFIG'),
    stateHome: base('XDG_STATE_HOME', '.local/state'),
    cacheHome: base('XDG_CACHE_HOME', '.cache'),
    configHome: base('XDG_CONFIG_HOME', '.config'),
  }
}

function unknownVariables(env: Environment): string[] {
  const known = Object.keys(VARIABLES)
  return Object.keys(env)
    .filter((name) => name.startsWith('HOLDFAST_') && !known.includes(name) && !name.startsWith(SERVER_PROGRAM_PREFIX))
    .sort()
    .map((name) => {
      const meant = closest(name, known)
      return `there is no variable ${printable(name)}${meant === undefined ? '' : ` (did you mean ${meant}?)`}`
    })
}

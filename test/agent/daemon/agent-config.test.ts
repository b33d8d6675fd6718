// The appliance's own configuration: the example holds, and everything that is wrong is named at once, without a value.
import { describe, expect, it } from 'vitest'
import { AGENT_CONFIG_EXAMPLE, excludeRules, parseAgentConfig } from '../../../agent/daemon/agent-config.ts'

const parse = (value: unknown) => parseAgentConfig(JSON.stringify(value), 'agent.json')

describe('agent.json', () => {
  it('is read as the example shows it', () => {
    const config = parseAgentConfig(AGENT_CONFIG_EXAMPLE, 'agent.json')
    expect(config.sources['documents']?.paths).toEqual([Buffer.from('/srv/documents')])
    expect(excludeRules(config, 'documents', ['media'])).toEqual({
      patterns: ['*.tmp', '*.mkv', '*.iso'],
      cacheDirectories: true,
      oneFileSystem: true,
      largerThanBytes: undefined,
    })
  })

  it('takes a path that is not UTF-8 in hex', () => {
    const config = parse({ host: 'a', restoreRoots: { odd: { hex: '2fff' } } })
    expect(config.restoreRoots['odd']).toEqual(Buffer.from([0x2f, 0xff]))
  })

  it('names only restore roots that it has as drill roots', () => {
    expect(parse({ host: 'a', restoreRoots: { drill: '/d' }, drillRoots: ['drill'] }).drillRoots).toEqual(['drill'])
    expect(() => parse({ host: 'a', restoreRoots: { desk: '/d' }, drillRoots: ['drill'] })).toThrow(
      /drillRoots\.0 must be one of restoreRoots/,
    )
  })

  it('with several mistakes is refused with all of them named and no value repeated', () => {
    const wrong = {
      host: 'Not A Label',
      sourcse: {},
      sources: { documents: { paths: ['relative/secret-name'], hook: 'rm' } },
      stores: { [`store_${'1'.repeat(32)}`]: { location: 's3:http://user:hunter2@objects.example/b' } },
      journalLimitBytes: 5,
    }
    expect(() => parse(wrong)).toThrow(expect.objectContaining({ code: 'bad-config', exitCode: 2 }))
    try {
      parse(wrong)
    } catch (error) {
      const { message } = error as Error
      for (const part of ['unknown key sourcse', 'sources.documents.hook', 'sources.documents.paths.0', 'journalLimitBytes', 'host'])
        expect(message).toContain(part)
      for (const secret of ['hunter2', 'secret-name', 'Not A Label']) expect(message).not.toContain(secret)
    }
  })

  it.each([
    ['no JSON', '{'],
    ['an array', '[]'],
    ['null', 'null'],
    ['no host', '{}'],
  ])('that is %s is refused', (_, text) => {
    expect(() => parseAgentConfig(text, 'agent.json')).toThrow(expect.objectContaining({ code: 'bad-config' }))
  })
})

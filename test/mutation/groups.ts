// What is mutated, and which tests have to notice: the fast ones of each part, the fastest first. Constant strings are not mutated.

export type MutationGroup = { readonly name: string; readonly sources: readonly string[]; readonly tests: readonly string[] }

export const GROUPS: readonly MutationGroup[] = [
  {
    name: 'chunker',
    sources: ['shared/chunking-stream/{chunker,cuts,kernel,options,streams,table}.ts'],
    tests: ['test/shared/chunking-stream/{chunker,streams,golden}.test.ts'],
  },
  {
    name: 'format',
    sources: ['shared/format/*.ts', 'agent/repository/{tree,segment,pack,snapshot,structure-box,forget-record}.ts'],
    tests: ['test/shared/format/*.test.ts', 'test/agent/repository/{snapshot-order,structure-box,pack,tree,snapshot}.test.ts'],
  },
  {
    name: 'index',
    sources: ['agent/repository/{index-file,index-merge,view,whole-view,footer-reader,collection-state}.ts'],
    tests: [
      'test/agent/repository/{index-file,said-alone,collection-state,pack-footer}.test.ts',
      'test/agent/collection/{written-off,taken-back}.test.ts',
      'test/agent/repair/writers.test.ts',
    ],
  },
  {
    name: 'collection',
    sources: ['agent/collection/*.ts', 'shared/retention.ts', 'agent/backup/list-watch.ts'],
    // Not asleep.test.ts and months.test.ts: whole months for every change.
    tests: [
      'test/shared/retention.test.ts',
      'test/agent/collection/{prune-plan,due-records,history,unfinished,session-life,reference-walk,deletion,forget,mark,survey,move-segments}.test.ts',
      'test/agent/collection/{prune,taken-back,given-up,written-off,copy-proof,overtaken,undelete,deletion-list,merged-late,suspended}.test.ts',
    ],
  },
  {
    name: 'path guard',
    sources: ['agent/restore/{decide,target-tree,selection}.ts'],
    // Not hostile.test.ts and round-trip.test.ts: whole restores for every change.
    tests: ['test/agent/restore/{decide,selection,target-tree}.test.ts'],
  },
  {
    name: 'grants',
    sources: ['agent/keys/{grant,signed-seal,bundle}.ts'],
    // Not partial-grant.test.ts: it starts a whole object store, anew for every change.
    tests: ['test/agent/keys/{grant,bundle}.test.ts'],
  },
]

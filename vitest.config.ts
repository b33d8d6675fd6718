// One runner for all tests; files under test/ mirror the sources. Real Redis, S3 and browser are started by the tests that need them.
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // A process for each file: tests start servers, worker threads and native libraries, and none may see what another left.
    pool: 'forks',
    // Two files at a time, also on larger machines: each may hold a Redis, an S3 server and worker threads of its own.
    maxWorkers: 2,
    fileParallelism: true,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
    disableConsoleIntercept: true,
  },
})

import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** What needs Redis, PostgreSQL or a browser, starts processes, or takes long. All else runs within itself. */
const SYSTEM = [
  'test/{attacks,browser,chaos,cli,clients,cluster,conformance,docs,e2e,fuzz,interleaving,model,services,weather}/**/*.test.ts',
  'test/backend/{postgres,redis,sealed,sqlite}/**/*.test.ts',
  'test/stream/seam.test.ts',
]

export default defineConfig({
  test: {
    testTimeout: 20_000,
    hookTimeout: 120_000,
    pool: 'forks',
    // Most of a test's time is waiting, for timers and for processes: two share a processor well.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: SYSTEM } },
      {
        extends: true,
        // Only what hangs takes as long: on a slow machine the start of a few processes takes many seconds.
        test: { name: 'system', include: SYSTEM, globalSetup: ['test/services/setup.ts'], testTimeout: 60_000 },
      },
    ],
    coverage: {
      // `CI=false` is none, as for the services
      enabled: Boolean(process.env.CI) && process.env.CI !== 'false',
      // What runs in processes that tests start (src/cli above all) is not seen: the numbers are lower than the truth.
      include: ['src/**'],
      reporter: ['text-summary'],
    },
  },
})

import { BaseSequencer, type TestSpecification } from 'vitest/node'
import { defineConfig } from 'vitest/config'

/**
 * Files that need a process of their own, because they replace modules or clocks, or load the process on purpose. They
 * come first: a worker that takes one of them between shared files would load the modules of the shared ones again.
 */
const ALONE = [
  'attack/crowding',
  'attack/crowd',
  'attack/flood',
  'metering/meter',
  'store/deadline',
  'store/journal-lock',
  'store/queue-file',
  'store/rides',
  'store/turns',
  // It takes longest, and it is slow beside files that load the machine.
  'store/chaos',
]

/** The shared files that take longest. They come next, so that at the end no worker waits for one of them. */
const LONG = [
  'browser/axe',
  'browser/dashboard-e2e',
  'http/run',
  'build/deploy',
  'store/crash',
  'ledger/invariants',
  'gateway/billed',
  'admin/export',
  'browser/tracker',
  'gateway/abort',
  'build/openapi',
  'gateway/proxy',
  'browser/tasks-e2e',
  'gateway/transparency',
  'store/tcp',
  'migration/crash',
]

const pathOf = (name: string) => `test/${name}.test.ts`
const FIRST = [...ALONE, ...LONG].map(pathOf)

const placeOf = ({ moduleId }: TestSpecification) => {
  const place = FIRST.findIndex((path) => moduleId.endsWith(`/${path}`))
  return place < 0 ? FIRST.length : place
}

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]) {
    return (await super.sort(files)).sort((a, b) => placeOf(a) - placeOf(b))
  }
}

// A crowded machine is not a failure; nothing is measured against the time limits.
const SETTINGS = {
  setupFiles: 'test/support/searched.ts',
  testTimeout: 30_000,
  hookTimeout: 30_000,
  expect: { poll: { timeout: 15_000 } },
}

export default defineConfig({
  test: {
    // Two cores: the tests wait for a fifth of their time.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    projects: [
      { test: { ...SETTINGS, name: 'alone', include: ALONE.map(pathOf) } },
      // Loading the modules again for each file would take a fifth of the time of all tests.
      {
        test: {
          ...SETTINGS,
          name: 'shared',
          include: ['test/**/*.test.{ts,tsx}'],
          exclude: ALONE.map(pathOf),
          isolate: false,
        },
      },
    ],
  },
})

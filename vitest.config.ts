import { BaseSequencer, type TestSpecification } from 'vitest/node'
import { defineConfig } from 'vitest/config'

/** Files that need a process of their own, because they replace modules or clocks, or load the process on purpose. */
const ALONE = [
  'store/chaos',
  'attack/crowding',
  'attack/crowd',
  'attack/flood',
  'metering/meter',
  'store/deadline',
  'store/journal-lock',
  'store/queue-file',
  'store/rides',
  'store/turns',
].map((name) => `test/${name}.test.ts`)

/** The files that take longest. They come first, so that at the end no worker waits for one of them. */
const LONG = [
  'store/chaos',
  'store/crash',
  'browser/dashboard-e2e',
  'build/deploy',
  'http/run',
  'browser/axe',
  'gateway/billed',
  'ledger/invariants',
  'migration/crash',
  'admin/export',
]

const placeOf = ({ moduleId }: TestSpecification) => {
  const place = LONG.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`))
  return place < 0 ? LONG.length : place
}

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]) {
    return (await super.sort(files)).sort((a, b) => placeOf(a) - placeOf(b))
  }
}

export default defineConfig({
  // A crowded machine is not a failure; nothing is measured against the time limits. With more workers than cores, tests
  // that break connections and kill servers run into their own limits.
  test: {
    setupFiles: 'test/support/searched.ts',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    sequence: { sequencer: LongestFirst },
    projects: [
      { extends: true, test: { name: 'alone', include: ALONE } },
      // Loading the modules again for each file would take a fifth of the time of all tests.
      {
        extends: true,
        test: {
          name: 'shared',
          include: ['test/**/*.test.{ts,tsx}'],
          exclude: ALONE,
          isolate: false,
        },
      },
    ],
  },
})

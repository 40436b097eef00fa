/** The tests that a mutant has to pass: those that hold the pure rooms and the local store, the quickest files first. */
import { resolve } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'
import { defineConfig } from 'vitest/config'

const FILES = [
  'admin/report.test.ts',
  'admin/views.test.tsx',
  'metering/outcome.test.ts',
  'metering/cost.test.ts',
  'http/ids.test.ts',
  'admin/export.test.ts',
  'admin/tokens.test.ts',
  'ledger/ledger.test.ts',
  ...['admit', 'settle', 'report', 'days', 'users', 'admin'].map((name) => `store/${name}.test.ts`),
  'store/retention.test.ts',
  'migration/local.test.ts',
  'metering/reservation.test.ts',
  'metering/meter.test.ts',
  'store/fallback.test.ts',
  'migration/merge.test.ts',
  'store/journal.test.ts',
].map((file) => `test/${file}`)

const placeOf = ({ moduleId }: TestSpecification) =>
  FILES.findIndex((file) => moduleId.endsWith(file))

class QuickestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]) {
    return files.sort((a, b) => placeOf(a) - placeOf(b))
  }
}

export default defineConfig({
  resolve: {
    alias: [
      {
        find: /^(\.|\.\.\/support)\/(world|database)\.ts$/,
        replacement: resolve('test/stryker/no-servers.ts'),
      },
    ],
  },
  test: {
    include: FILES,
    setupFiles: 'test/stryker/setup.ts',
    sequence: { sequencer: QuickestFirst },
    testTimeout: 10_000,
  },
})

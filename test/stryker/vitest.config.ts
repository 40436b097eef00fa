/** The tests that a mutant has to pass: those that hold src/usage/ and the local store, the quickest files first. */
import { resolve } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'
import { defineConfig } from 'vitest/config'

const FILES = [
  ...['report', 'views', 'outcome', 'price', 'user-id', 'export', 'tokens', 'ledger', 'store'],
  ...['retention', 'migration-local', 'bound', 'meter', 'fallback', 'migration-merge', 'journal'],
].map((name) => `test/${name}.test.${name === 'views' ? 'tsx' : 'ts'}`)

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
      { find: /^\.\/(world|database)\.ts$/, replacement: resolve('test/stryker/no-servers.ts') },
    ],
  },
  test: {
    include: FILES,
    setupFiles: 'test/stryker/setup.ts',
    sequence: { sequencer: QuickestFirst },
    testTimeout: 10_000,
  },
})

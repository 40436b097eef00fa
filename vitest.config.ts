import { defineConfig } from 'vitest/config'

export default defineConfig({
  // A crowded machine is not a failure; nothing is measured against the time limits. With more workers than cores, tests
  // that break connections and kill servers run into their own limits.
  test: { maxWorkers: 2, testTimeout: 30_000, hookTimeout: 30_000 },
})

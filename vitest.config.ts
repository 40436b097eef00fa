import { defineConfig } from 'vitest/config'

export default defineConfig({
  // A crowded machine is not a failure; nothing is measured against these.
  test: { maxWorkers: 2, testTimeout: 30_000, hookTimeout: 30_000 },
})

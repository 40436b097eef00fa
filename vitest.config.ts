import { defineConfig } from 'vitest/config'

export default defineConfig({
  // The tests wait more than they compute, so three workers fill two cores. Nothing is measured against the time limits.
  test: { maxWorkers: 3, testTimeout: 30_000, hookTimeout: 30_000 },
})

import { defineConfig } from 'vitest/config'

export default defineConfig({
  // Tests wait more than they reckon, so two cores take three files at a time. A crowded machine is not a failure;
  // nothing is measured against the times.
  test: { maxWorkers: 3, testTimeout: 30_000, hookTimeout: 30_000 },
})

/**
 * `npm run stryker`: breaks each statement of the pure rooms (ledger, metering, reports) and of the local store in every way that Stryker knows, one at a
 * time, and counts what the quick tests do not notice. `-- --mutate src/metering/reservation.ts` is one file, `--force` begins from nothing.
 *
 * Stryker has packages of its own in this folder: `npm ci` of the project need not wait for them.
 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export default {
  mutate: [
    'src/{ledger,metering,reports}/*.ts',
    'src/identity/ids.ts',
    'src/store/local/*.ts',
    'src/store/fallback/{memory,remembered,seen-limits}.ts',
    'src/store/cursor.ts',
  ],
  testRunner: 'vitest',
  vitest: { configFile: 'test/stryker/vitest.config.ts', related: false },
  // The types are checked by `npm test`; TypeScript 7 has no API for Stryker to read this file with.
  tsconfigFile: 'none',
  coverageAnalysis: 'perTest',
  concurrency: 2,
  // A crowded machine is not a mutant that hangs.
  timeoutMS: 20_000,
  incremental: true,
  incrementalFile: '.stryker/incremental.json',
  // Elsewhere, so that vitest does not find the tests of the copy.
  tempDirName: mkdtempSync(join(tmpdir(), 'weir-stryker-')),
  cleanTempDir: 'always',
  ignorePatterns: ['bench', 'docs', 'dist', 'logs', 'screenshots'],
  reporters: ['clear-text', 'progress-append-only', 'html', 'json'],
  clearTextReporter: { allowColor: false, logTests: false, reportTests: false },
  htmlReporter: { fileName: '.stryker/report.html' },
  jsonReporter: { fileName: '.stryker/report.json' },
  thresholds: { high: 95, low: 90, break: 85 },
}

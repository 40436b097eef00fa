/** One esbuild call for the edge: what Vercel and workerd run, and the development server too. */
import type { BuildOptions } from 'esbuild'
import { pruning } from './prune.ts'

/** The behaviour of workerd that is built for; wrangler.toml says the same. */
export const COMPATIBILITY_DATE = '2026-04-01'

/** Options to bundle an edge entry into one file. */
export const edgeBundle = (entry: string, outfile: string): BuildOptions => ({
  entryPoints: [entry],
  outfile,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  platform: 'browser',
  conditions: ['edge-light', 'workerd', 'worker', 'browser'],
  legalComments: 'none',
  plugins: [pruning],
})

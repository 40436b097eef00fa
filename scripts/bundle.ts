/** The esbuild options of the edge bundle. Development, tests, Vercel and Cloudflare all use the same bundle. */
import type { BuildOptions, Plugin } from 'esbuild'
import { ASSET_FILES, readAssets } from '../src/views/assets.ts'

/** The compatibility date of workerd. wrangler.toml has the same date. */
export const COMPATIBILITY_DATE = '2026-04-01'

/** Puts the files that the pages load into the bundle. They replace src/views/assets.ts. */
const assets: Plugin = {
  name: 'assets',
  setup(build) {
    build.onLoad({ filter: /[\\/]src[\\/]views[\\/]assets\.ts$/ }, () => ({
      contents: `export const ASSETS = ${JSON.stringify(readAssets())}`,
      watchFiles: Object.values(ASSET_FILES),
    }))
  },
}

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
  // For src/store/redis/script-inlined.ts.
  loader: { '.lua': 'text' },
  plugins: [assets],
})

/** One esbuild call for the edge: what Vercel and workerd run, and the development server too. */
import { build, type BuildOptions } from 'esbuild'
import { pruning } from './prune.ts'

/** The behaviour of workerd that is built for; wrangler.toml says the same. */
export const COMPATIBILITY_DATE = '2026-04-01'

/**
 * The file that is deployed, with its source map: one esbuild call, and terser after it, which finds another 4 % of bytes.
 * Tests and development run what esbuild gives; what is built here is run by the tests of deploying.
 */
export async function buildEdge(
  entry: string,
  outfile: string,
): Promise<{ code: string; map: string }> {
  // Only here, since every test that runs workerd loads this file.
  const { minify } = await import('terser')
  const options = edgeBundle(entry, outfile)
  const { outputFiles } = await build({ ...options, write: false, sourcemap: 'external' })
  const textOf = (end: string) => outputFiles.find(({ path }) => path.endsWith(end))?.text ?? ''
  const { code = '', map } = await minify(textOf('.js'), {
    module: true,
    ecma: 2020,
    compress: { passes: 3 },
    sourceMap: { content: textOf('.map'), filename: 'index.js' },
  })
  return { code, map: String(map) }
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
  plugins: [pruning],
})

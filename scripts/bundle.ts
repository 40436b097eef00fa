/** The esbuild options of the edge bundles. Development, tests, Vercel and Cloudflare all use the same bundles. */
import type { BuildOptions, Plugin } from 'esbuild'
import type { WorkerOptions } from 'miniflare'
import { SCRIPT_FILES, readScript } from '../src/store/redis/script-files.ts'
import { ASSET_FILES, readAssets } from '../src/views/assets.ts'

/** The compatibility date of workerd. wrangler.toml and wrangler.pages.toml have the same date. */
export const COMPATIBILITY_DATE = '2026-04-01'

/** Replaces a module that reads files while it loads by the values that it exports. */
const inlined = (module: string, files: string[], read: () => Record<string, unknown>): Plugin => ({
  name: module,
  setup(build) {
    const filter = new RegExp(
      `${module.replace(/\W/g, (char) => (char === '/' ? '[\\\\/]' : `\\${char}`))}$`,
    )
    build.onLoad({ filter }, () => ({
      contents: Object.entries(read())
        .map(([name, value]) => `export const ${name} = ${JSON.stringify(value)}`)
        .join('\n'),
      watchFiles: files,
    }))
  },
})

const assets = inlined('src/views/assets.ts', Object.values(ASSET_FILES).flat(), () => ({
  ASSETS: readAssets(),
}))

const script = inlined('src/store/redis/script-files.ts', SCRIPT_FILES, () => ({
  LEDGER_SCRIPT: readScript(),
}))

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
  // workerd has this module.
  external: ['cloudflare:workers'],
  plugins: [assets, script],
})

/** The two bundles for workerd. */
export const WORKERS = { proxy: 'src/worker.ts', pages: 'src/worker-pages.ts' }

export type WorkerScripts = Record<keyof typeof WORKERS, string>

/**
 * The two workers as Miniflare runs them, the proxy first. Only the proxy has the variables; both call the `services`
 * that they use in development.
 */
export const workersOf = (
  scripts: WorkerScripts,
  bindings: Record<string, string>,
  services: NonNullable<WorkerOptions['serviceBindings']> = {},
): WorkerOptions[] => {
  // A list of modules, because Miniflare would parse a script to look for more of them.
  const worker = (name: string, contents: string) => ({
    name,
    modules: [{ type: 'ESModule' as const, path: `${name}.js`, contents }],
    compatibilityDate: COMPATIBILITY_DATE,
  })
  const pages = { name: 'weir-pages', entrypoint: 'Pages' }
  return [
    {
      ...worker('weir', scripts.proxy),
      bindings,
      serviceBindings: { ...services, PAGES: pages },
    },
    { ...worker('weir-pages', scripts.pages), serviceBindings: services },
  ]
}

/** Programs as one file, for tests that start many processes: with tsx, each start takes four times as long. */
import { build, type BuildOptions } from 'esbuild'
import { cp, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, parse, resolve } from 'node:path'
import { afterAll, beforeAll } from 'vitest'

const BUNDLE: BuildOptions = {
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  // These start programs of their packages.
  external: ['esbuild', 'miniflare'],
  // Some packages use CommonJS.
  banner: {
    js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)",
  },
}

/** Bundles a script that is given as text, with imports relative to this folder. */
export async function bundleText(contents: string, outfile: string): Promise<void> {
  const stdin = { contents, resolveDir: import.meta.dirname, loader: 'ts' as const }
  await build({ ...BUNDLE, stdin, outfile })
}

/** Bundles a script of the checkout into a folder, with the files that it reads, and returns its path. */
export async function bundleScript(script: string, folder: string): Promise<string> {
  const outfile = join(folder, `${parse(script).name}.mjs`)
  await build({ ...BUNDLE, entryPoints: [script], outfile })
  // Our code reads Lua files and page files from its own folders.
  const isLua = (path: string) => !path.endsWith('.ts')
  await cp('src/store/redis', folder, { recursive: true, filter: isLua })
  await cp('src/views/assets', join(folder, 'assets'), { recursive: true })
  await symlink(resolve('node_modules'), join(folder, 'node_modules'))
  return outfile
}

/** A bundled script for the tests of a file, by default the entry for Node. */
export function useEntry(script = 'src/node.ts'): { readonly path: string } {
  let folder = ''
  const entry = { path: '' }
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'weir-entry-'))
    entry.path = await bundleScript(script, folder)
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))
  return entry
}

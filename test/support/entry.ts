/** Programs as one file, for tests that start many processes: with tsx, each start takes four times as long. */
import { build, type BuildOptions } from 'esbuild'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'

const BUNDLE: BuildOptions = {
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
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

/** Bundles the entry for Node into a folder, with the files that it reads, and returns its path. */
export async function bundleEntry(folder: string): Promise<string> {
  const entry = join(folder, 'node.mjs')
  await build({ ...BUNDLE, entryPoints: ['src/node.ts'], outfile: entry })
  // The server reads Lua files and page files from the folders of its code.
  const isLua = (path: string) => !path.endsWith('.ts')
  await cp('src/store/redis', folder, { recursive: true, filter: isLua })
  await cp('src/views/assets', join(folder, 'assets'), { recursive: true })
  return entry
}

/** The bundled entry for the tests of a file. */
export function useEntry(): { readonly path: string } {
  let folder = ''
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'weir-entry-'))
    await bundleEntry(folder)
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))
  return {
    get path() {
      return join(folder, 'node.mjs')
    },
  }
}

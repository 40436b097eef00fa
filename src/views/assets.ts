/**
 * The files that the pages load. Each URL contains a digest of the text, so that a browser may cache the file for a
 * year and a page never loads another version of it. On Node the files are read at the start. The edge has no disk,
 * so scripts/bundle.ts replaces this module with the `ASSETS` of the build.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export type Asset = { path: string; type: string; text: string }

const fileOf = (name: string) => fileURLToPath(new URL(`assets/${name}`, import.meta.url))

/** The style, a file for each subject, in the order in which rules take the place of earlier ones. */
const STYLES = ['base', 'frame', 'cards', 'charts', 'tables', 'forms', 'messages', 'screens']

/** Their paths on disk. */
export const ASSET_FILES = {
  script: [fileOf('admin.js')],
  style: STYLES.map((name) => fileOf(`style/${name}.css`)),
  usage: [fileOf('usage.js')],
  usageStyle: [fileOf('usage.css')],
}

const SCRIPT = 'text/javascript; charset=utf-8'
const STYLE = 'text/css; charset=utf-8'

/** Reads them from disk. */
export const readAssets = () => ({
  script: readAsset('admin.js', ASSET_FILES.script, SCRIPT),
  style: readAsset('admin.css', ASSET_FILES.style, STYLE),
  usage: readAsset('usage.js', ASSET_FILES.usage, SCRIPT),
  usageStyle: readAsset('usage.css', ASSET_FILES.usageStyle, STYLE),
})

function readAsset(name: string, files: string[], type: string): Asset {
  const text = files.map((file) => readFileSync(file, 'utf8')).join('')
  const digest = createHash('sha256').update(text).digest('base64url')
  return { path: `/assets/${digest}/${name}`, type, text }
}

export const ASSETS = readAssets()

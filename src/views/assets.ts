/**
 * The files that the pages load. Each URL contains a digest of the text, so that a browser may cache the file for a
 * year and a page never loads another version of it. On Node the files are read at the start. The edge has no disk,
 * so scripts/bundle.ts replaces this module with the `ASSETS` of the build.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'

export type Asset = { path: string; type: string; text: string }

const fileOf = (name: string) => fileURLToPath(new URL(`assets/${name}`, import.meta.url))

/** Their paths on disk. */
export const ASSET_FILES = {
  script: fileOf('admin.js'),
  style: fileOf('admin.css'),
  usage: fileOf('usage.js'),
  usageStyle: fileOf('usage.css'),
}

const SCRIPT = 'text/javascript; charset=utf-8'
const STYLE = 'text/css; charset=utf-8'

/** Reads them from disk. */
export const readAssets = () => ({
  script: readAsset(ASSET_FILES.script, SCRIPT),
  style: readAsset(ASSET_FILES.style, STYLE),
  usage: readAsset(ASSET_FILES.usage, SCRIPT),
  usageStyle: readAsset(ASSET_FILES.usageStyle, STYLE),
})

function readAsset(file: string, type: string): Asset {
  const text = readFileSync(file, 'utf8')
  const digest = createHash('sha256').update(text).digest('base64url')
  return { path: `/assets/${digest}/${basename(file)}`, type, text }
}

export const ASSETS = readAssets()

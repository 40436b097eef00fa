/**
 * Loaded before tsx, which keeps a cache in the folder for temporary files. If nothing can be created there, for
 * example in a container with a read-only root, tsx would end the process.
 */
import { mkdtempSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import './parent.mjs'

try {
  rmdirSync(mkdtempSync(join(tmpdir(), 'weir-')))
} catch {
  process.env.TSX_DISABLE_CACHE ??= '1'
}

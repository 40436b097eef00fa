#!/usr/bin/env node
/**
 * The command `weir`: like `npm start`, from any folder. Outside of production it is a gateway to try out, which only this
 * machine reaches.
 */
import '../src/platform/node/no-cache.mjs'
import { register } from 'tsx/esm/api'
import { fileURLToPath } from 'node:url'

const { env } = process
if (env.NODE_ENV !== 'production') {
  env.DEMO ||= '1'
  env.HOST ||= '127.0.0.1'
}
// Not that of the folder it is called in.
register({ tsconfig: fileURLToPath(new URL('../tsconfig.json', import.meta.url)) })
await import('../src/node.ts')

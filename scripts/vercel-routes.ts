/** Which of Vercel's functions and files answers a path: https://vercel.com/docs/build-output-api/configuration#routes */
import { PAGES_PATHS } from '../src/app.ts'
import {
  SHARED_HEADERS,
  SHARED_PATHS,
  STATIC_HEADERS,
  STATIC_PATHS,
} from '../src/platform/node/static-files.ts'

const escaped = (path: string) => path.replace(/[.+^$*?()[\]{}|\\]/g, '\\$&')

/** A regular expression that matches these paths only. */
const only = (paths: string[]) => `^(?:${paths.map(escaped).join('|')})$`

/** The routes of a gateway below a path, which is empty for the root. */
export const vercelRoutes = (basePath: string) => [
  // The functions take a path with and without it; the routes that follow are for paths without it.
  ...(basePath ? [{ src: `^${escaped(basePath)}(/.*)$`, dest: '$1', continue: true }] : []),
  { src: only(STATIC_PATHS), headers: STATIC_HEADERS, continue: true },
  { src: only(SHARED_PATHS), headers: SHARED_HEADERS, continue: true },
  { handle: 'filesystem' },
  { src: `^(?:/|(?:${PAGES_PATHS.join('|')})(?:/.*)?)$`, dest: '/pages' },
  { src: '/(.*)', dest: '/index' },
]

/** The entry for the proxy on Vercel. */
import { createProxyApp } from './app.ts'
import { vercelHandler } from './platform/vercel.ts'

/** The runtime of both functions, for scripts/build.ts. To use Node, change `edge` to `nodejs`; nothing else changes. */
export const config = { runtime: 'edge' }

export default vercelHandler({ createApp: createProxyApp })

/** The entry for the pages on Vercel. */
import { createPagesApp } from './app.ts'
import { vercelHandler } from './platform/vercel.ts'
import { turnTaker } from './store/redis/turns.ts'

export default vercelHandler({ createApp: createPagesApp, turnTaker })

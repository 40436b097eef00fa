/** The gateway as `npm start` runs it on a database, with every limit checked and none ever met. */
import { readConfig } from '../src/config.ts'
import { createLog } from '../src/log.ts'
import { openStore } from '../src/node-store.ts'
import { startServer } from '../src/server.ts'
import { answerUsage, optionsOfParent, urlOf } from './child.ts'

const { upstream, database } = optionsOfParent<{
  upstream: string
  database: { url: string; token: string }
}>()

const AMPLE = {
  tokensPerDay: 1e12,
  requestsPerDay: 1e9,
  tokensPerMinute: 1e12,
  requestsPerMinute: 1e9,
}

const config = readConfig(
  {
    GROQ_API_KEY: 'gsk_bench',
    GROQ_BASE_URL: upstream,
    ADMIN_KEY: 'admin-key-of-the-bench',
    USER_HASH_SECRET: 'secret-of-the-bench',
    KV_REST_API_URL: database.url,
    KV_REST_API_TOKEN: database.token,
    MODEL_LIMITS: JSON.stringify({ '*': AMPLE, total: AMPLE }),
    GLOBAL_LIMITS: JSON.stringify({ total: AMPLE, 'openai/gpt-oss-20b': AMPLE }),
    ON_CLIENT_ABORT: 'drain',
    // A crowded machine is not a database that is gone.
    STORE_TIMEOUT_MS: '3000',
    LOG_LEVEL: 'warn',
    PORT: '0',
  },
  'node',
)
const log = createLog({
  level: config.logLevel,
  format: 'json',
  write: (line) => console.log(line),
})
const { store } = await openStore(config, log)

answerUsage(urlOf(await startServer({ config, store, log })))

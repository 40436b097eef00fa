/** A real redis-server behind the REST protocol of Upstash, as near or as far as the parent wants. */
import { startRedis } from '../test/redis.ts'
import { startUpstash } from '../test/upstash.ts'
import { answerParent } from './child.ts'

export type DatabaseQuestion = {
  /** Milliseconds by which every answer is late from now on. */
  delay: number
}

export type DatabaseAnswer = { token: string }

const redis = await startRedis()
const upstash = await startUpstash(redis)
// It keeps a log of every call, which nobody reads here.
setInterval(() => upstash.log.splice(0), 1000).unref()

answerParent<DatabaseQuestion, DatabaseAnswer>(upstash.url, ({ delay }) => {
  upstash.fault(delay > 0 ? () => ({ delay }) : undefined)
  return { token: upstash.token }
})

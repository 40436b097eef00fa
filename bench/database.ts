/** A real redis-server behind the REST protocol of Upstash, as near or as far as the parent wants. */
import { startRedis } from '../test/redis.ts'
import { startUpstash } from '../test/upstash.ts'
import { answerParent } from './child.ts'
import { populate } from './populate.ts'

export type DatabaseQuestion =
  /** By how many ms every answer over REST is late from now on. */
  | { delay: number }
  /** Makes up a past with so many users. */
  | { users: number }
  /** What it has done since the last time. */
  | { take: 'stats' }

export type DatabaseAnswer = {
  token: string
  tcp: string
  /** Commands as Upstash bills them: each one, those inside of scripts too. */
  billed: number
  /** Every call of a script, by the operation it was sent first, in µs within Redis. */
  scripts: { op: string; us: number }[]
  /** µs that the calls took, in each all that a script did. */
  us: number
  /** µs of CPU that it has used, user and system. */
  cpu: number
}

/** In place of the address of a client, for what a script has run. */
const IN_SCRIPT = '?:0'

const redis = await startRedis()
const upstash = await startUpstash(redis)
// It keeps a log of every call, which nobody reads here.
setInterval(() => upstash.log.splice(0), 1000).unref()
await redis.command(['CONFIG', 'SET', 'slowlog-max-len', '20000'])

async function cpuUsed(): Promise<number> {
  const info = String(await redis.command(['INFO', 'cpu']))
  const [user = 0, system = 0] = ['user', 'sys'].map((of) =>
    Number(new RegExp(`^used_cpu_${of}:(\\S+)`, 'm').exec(info)?.[1]),
  )
  return (user + system) * 1e6
}

let cpuBefore = 0

async function stats(): Promise<Pick<DatabaseAnswer, 'billed' | 'scripts' | 'us' | 'cpu'>> {
  const cpu = (await cpuUsed()) - cpuBefore
  const counts = await redis.commandstats()
  const slow = (await redis.command(['SLOWLOG', 'GET', '-1'])) as [
    number,
    number,
    number,
    string[],
    string,
  ][]
  const scripts: DatabaseAnswer['scripts'] = []
  let us = 0
  for (const [, , duration, args, client] of slow) {
    if (client === IN_SCRIPT) continue
    const [name = ''] = args
    const op = args.map((arg) => /^\{"op":"(\w+)"/.exec(arg)?.[1]).find(Boolean)
    if (op) scripts.push({ op, us: duration })
    if (!/^(config|slowlog|info|client|hello)$/i.test(name)) us += duration
  }
  await redis.command(['SLOWLOG', 'RESET'])
  await redis.resetStats()
  cpuBefore = await cpuUsed()
  // What looking costs is not counted.
  const billed = Object.entries(counts)
    .filter(([name]) => !name.startsWith('slowlog'))
    .reduce((sum, [, calls]) => sum + calls, 0)
  return { billed, scripts, us, cpu }
}

answerParent<DatabaseQuestion, DatabaseAnswer>(upstash.url, async (question) => {
  if ('delay' in question) {
    const { delay } = question
    upstash.fault(delay > 0 ? () => ({ delay }) : undefined)
  }
  if ('users' in question) {
    await populate(redis, question.users)
    await redis.command(['CONFIG', 'SET', 'slowlog-log-slower-than', '0'])
  }
  return { token: upstash.token, tcp: redis.url, ...(await stats()) }
})

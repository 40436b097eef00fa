/** A real redis-server behind Upstash's REST protocol, with a delay that the parent sets. */
import { startRedis } from '../test/support/redis.ts'
import { startUpstash } from '../test/support/upstash.ts'
import { answerParent } from './child.ts'
import { populate } from './populate.ts'

export type DatabaseQuestion =
  /** From now on, every answer over REST is this many ms late. */
  | { delay: number }
  /** Fills the database with the past of this many users. */
  | { users: number }
  /** What the database has done since the last question. */
  | { take: 'stats' }

export type DatabaseAnswer = {
  token: string
  tcp: string
  /** Commands as Upstash bills them: each one, also those inside of scripts. */
  billed: number
  /** Every call of a script, by the operation of its first command, in µs within Redis. */
  scripts: { op: string; us: number }[]
  /** HTTP requests that it got. */
  calls: number
  /** The time of all calls in µs, scripts included. */
  us: number
  /** User and system CPU time in µs. */
  cpu: number
}

/** The log has this in place of a client's address for a command that a script has run. */
const IN_SCRIPT = '?:0'

const redis = await startRedis()
const upstash = await startUpstash(redis)
let calls = 0
const takeCalls = () => (calls += upstash.log.splice(0).length)
// The log of all calls would be long.
setInterval(takeCalls, 1000).unref()
await redis.command(['CONFIG', 'SET', 'slowlog-max-len', '20000'])

async function cpuUsed(): Promise<number> {
  const info = String(await redis.command(['INFO', 'cpu']))
  const [user = 0, system = 0] = ['user', 'sys'].map((of) =>
    Number(new RegExp(`^used_cpu_${of}:(\\S+)`, 'm').exec(info)?.[1]),
  )
  return (user + system) * 1e6
}

let cpuBefore = 0

async function stats(): Promise<Omit<DatabaseAnswer, 'token' | 'tcp'>> {
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
  takeCalls()
  const answered = { calls }
  calls = 0
  await redis.command(['SLOWLOG', 'RESET'])
  await redis.resetStats()
  cpuBefore = await cpuUsed()
  // The commands of this question itself are not counted.
  const billed = Object.entries(counts)
    .filter(([name]) => !name.startsWith('slowlog'))
    .reduce((sum, [, calls]) => sum + calls, 0)
  return { billed, scripts, us, cpu, ...answered }
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

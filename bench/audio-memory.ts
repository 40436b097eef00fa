/**
 * `npm run bench:audio`: the most memory that uploads take, on Node and in workerd. It repeats this: as many of the
 * largest uploads as are taken in at once are sent at once, each in a form of which a copy with another
 * `response_format` is made.
 */
import { readFile } from 'node:fs/promises'
import { startGateway, type Kind } from '../test/support/gateways.ts'
import { FORM_TYPE, formOf } from '../test/support/form.ts'
import { startProcess } from '../test/support/process.ts'
import { startRedis } from '../test/support/redis.ts'
import { startUpstash } from '../test/support/upstash.ts'
import { startUpstream } from '../test/support/upstream.ts'
import { childrenOf } from './processes.ts'
import { table } from './report.ts'

const LARGEST = 25 * 1024 * 1024
const ROUNDS = 6
const AT_ONCE: Record<Kind, number> = { node: 8, workerd: 2 }

const redis = await startRedis()
const upstash = await startUpstash(redis)
const upstream = await startUpstream()
const vars = {
  GROQ_BASE_URL: upstream.url,
  KV_REST_API_URL: upstash.url,
  KV_REST_API_TOKEN: upstash.token,
  USER_HASH_SECRET: 'secret-of-the-bench',
  MODEL_LIMITS: '{"*":{}}',
  GLOBAL_LIMITS: '{}',
  STORE_TIMEOUT_MS: '10000',
  LOG_LEVEL: 'warn',
}
const field = { name: 'model', value: 'whisper-large-v3' }
const empty = formOf([{ name: 'file', filename: 'a.mp3', value: '' }, field])
const audio = new Uint8Array(LARGEST - empty.length)
const body = formOf([{ name: 'file', filename: 'a.mp3', value: audio }, field])

/** The memory of a process in MB: now, and the most so far. */
async function memoryOf(pid: number): Promise<{ now: number; most: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const of = (name: string) =>
    Math.round(Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024)
  return { now: of('VmRSS'), most: of('VmHWM') }
}

async function send(url: string): Promise<number> {
  const answer = await fetch(`${url}/api/groq/openai/v1/audio/transcriptions`, {
    method: 'POST',
    headers: { authorization: 'Bearer token-of-the-bench', 'content-type': FORM_TYPE },
    body,
  })
  await answer.arrayBuffer()
  return answer.status
}

async function measure(kind: Kind, url: string, pid: number) {
  await send(url)
  const before = await memoryOf(pid)
  const statuses = new Map<number, number>()
  for (let round = 0; round < ROUNDS; round += 1) {
    upstream.seen.length = 0
    const sent = Array.from({ length: AT_ONCE[kind] }, () => send(url))
    for (const status of await Promise.all(sent)) {
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
  }
  const after = await memoryOf(pid)
  const answers = [...statuses].map(([status, count]) => `${count} × ${status}`).join(', ')
  return [kind, String(AT_ONCE[kind]), answers, `${before.now} MB`, `${after.most} MB`]
}

const node = await startProcess(vars)
const onNode = await measure('node', node.url, node.pid)
await node.end('SIGTERM')
const workerd = await startGateway('workerd', vars)
const [pid = 0] = await childrenOf(process.pid, 'workerd')
const inWorkerd = await measure('workerd', workerd.url, pid)
await workerd.close()
await upstream.close()
await upstash.close()
await redis.stop()
console.log(
  table(
    ['runtime', 'uploads of 25 MiB at once', 'answers', 'after one', 'at most'],
    [onNode, inWorkerd],
  ),
)

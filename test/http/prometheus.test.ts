/** What Prometheus and Grafana make of the metrics: the real Prometheus where it is installed (Debian's `prometheus`). */
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventOf, type Gateway } from '../support/gateways.ts'
import { FORM_TYPE, formOf } from '../support/form.ts'
import { mayBeIn } from '../support/secrets.ts'
import { samples, wavOf } from '../support/wav.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()
const METRICS_KEY = 'key-of-the-prometheus-of-the-tests'
const MODEL = 'openai/gpt-oss-20b'
const VARS = {
  METRICS_KEY,
  MODEL_PRICES: JSON.stringify({ [MODEL]: { input: 1, output: 1 } }),
  MODEL_LIMITS: '{"*":{"requestsPerDay":1}}',
  GLOBAL_LIMITS: '{"total":{"tokensPerDay":1000000}}',
}

type Target = { expr: string; legendFormat: string; datasource: { uid: string } }
type Dashboard = {
  id: null
  uid: string
  schemaVersion: number
  templating: { list: { name: string; type: string; query: string }[] }
  panels: { id: number; title: string; datasource: { uid: string }; targets: Target[] }[]
}

const dashboard = async () =>
  JSON.parse(await readFile('examples/grafana/weir.json', 'utf8')) as Dashboard

/** Makes an answer and a refusal, and reads the metrics. */
async function scrape(gateway: Gateway): Promise<string> {
  const ask = () =>
    fetch(`${gateway.url}/api/groq`, {
      method: 'POST',
      headers: { 'x-user-token': `token-of-${Math.random()}` },
      body: `{"prompt":"Hello","model":"${MODEL}"}`,
    })
  await eventOf(world.store, (await ask()).headers.get('x-weir-id'))
  await fetch(`${gateway.url}/api/groq`, { method: 'POST', body: '{"prompt":"Hello"}' })
  await speakAndTranscribe(gateway)
  // The admission carries the refusal that this instance counted.
  await eventOf(world.store, (await ask()).headers.get('x-weir-id'))
  const headers = { authorization: `Bearer ${METRICS_KEY}` }
  return (await fetch(`${gateway.url}/metrics`, { headers })).text()
}

async function speakAndTranscribe({ url }: Gateway): Promise<void> {
  const post = async (path: string, headers: Record<string, string>, body: BodyInit) =>
    fetch(`${url}/api/groq/openai/v1/audio/${path}`, {
      ...{ method: 'POST', body },
      headers: { 'x-user-token': `token-of-${Math.random()}`, ...headers },
    })
  const form = formOf([
    { name: 'file', filename: 'a.wav', value: wavOf(samples(32_000)) },
    { name: 'model', value: 'whisper-large-v3' },
  ])
  for (const answer of [
    await post('speech', {}, '{"model":"canopylabs/orpheus-v1-english","input":"Hello"}'),
    await post('transcriptions', { 'content-type': FORM_TYPE }, form),
  ]) {
    await eventOf(world.store, answer.headers.get('x-weir-id'))
  }
}

/** The labels of each metric. */
function labelsIn(text: string): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>()
  for (const [, name = '', labels = ''] of text.matchAll(/^(weir_\w+)(?:\{(.*)\})? /gm)) {
    const known = found.get(name) ?? new Set()
    for (const [, label = ''] of labels.matchAll(/(\w+)="/g)) known.add(label)
    found.set(name, known)
  }
  return found
}

test('the dashboard asks for metrics and labels that there are, of the data source that one chooses', async () => {
  const metrics = labelsIn(await scrape(await world.gateway('node', VARS)))
  const { id, panels, templating } = await dashboard()
  expect(id).toBeNull()
  expect(templating.list).toMatchObject([
    { name: 'datasource', type: 'datasource', query: 'prometheus' },
  ])
  const asked = new Set<string>()
  for (const { title, datasource, targets } of panels) {
    for (const { expr, legendFormat, datasource: own } of targets) {
      expect([datasource.uid, own.uid]).toEqual(['${datasource}', '${datasource}'])
      const names = [...expr.matchAll(/\bweir_\w+/g)].map(([name]) => name)
      expect(names.length, title).toBeGreaterThan(0)
      for (const name of names) {
        asked.add(name)
        expect([...metrics.keys()], title).toContain(name)
      }
      const groups = [...expr.matchAll(/by \(([^)]*)\)/g)].flatMap(([, list = '']) =>
        list.split(/, */),
      )
      const matchers = [...expr.matchAll(/(\w+)=~?"/g)].map(([, label = '']) => label)
      const legends = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = '']) => label)
      for (const label of [...groups, ...matchers, ...legends]) {
        expect(
          names.some((name) => metrics.get(name)?.has(label)),
          `${title}: ${label}`,
        ).toBe(true)
      }
      for (const label of legends) expect(groups, title).toContain(label)
    }
  }
  expect([...asked].sort()).toEqual([...metrics.keys()].sort())
  expect(new Set(panels.map((panel) => panel.id)).size).toBe(panels.length)
})

const isInstalled = (() => {
  try {
    execFileSync('promtool', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

let folder: string
let prometheus: ChildProcess | undefined
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weir-prometheus-'))
})
afterAll(async () => {
  if (prometheus?.exitCode === null) {
    const ended = once(prometheus, 'exit')
    prometheus.kill()
    await ended
  }
  await rm(folder, { recursive: true })
})

test.runIf(isInstalled)('promtool finds nothing wrong with the metrics', async () => {
  const text = await scrape(await world.gateway('node', VARS))
  const checked = promisify(execFile)('promtool', ['check', 'metrics'])
  checked.child.stdin?.end(text)
  expect(await checked).toEqual({ stdout: '', stderr: '' })
})

test.runIf(isInstalled)(
  'a real Prometheus scrapes them, and answers each question of the dashboard',
  async () => {
    const gateway = await world.gateway('node', VARS)
    await scrape(gateway)
    const config = join(folder, 'prometheus.yml')
    // As an operator writes it there.
    mayBeIn(['a document'], METRICS_KEY)
    const { host } = new URL(gateway.url)
    // YAML takes JSON.
    const job = {
      job_name: 'weir',
      scrape_interval: '1s',
      authorization: { credentials: METRICS_KEY },
      static_configs: [{ targets: [host] }],
    }
    await writeFile(config, JSON.stringify({ scrape_configs: [job] }))
    const port = await freePort()
    prometheus = spawn(
      'prometheus',
      [
        `--config.file=${config}`,
        `--storage.tsdb.path=${join(folder, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
      ],
      { stdio: 'ignore' },
    )
    const ask = async (query: string) => {
      const path = `/api/v1/query?query=${encodeURIComponent(query)}`
      const answer = await fetch(`http://127.0.0.1:${port}${path}`).catch(() => undefined)
      const body = (await answer?.json()) as { data?: { result: unknown[] } } | undefined
      return body?.data?.result ?? []
    }
    await expect
      .poll(() => ask('count_over_time(weir_users_active[1m]) >= 2'), { timeout: 20_000 })
      .toHaveLength(1)
    const { panels } = await dashboard()
    for (const { expr } of panels.flatMap(({ targets }) => targets)) {
      const found = await ask(expr.replaceAll('$__rate_interval', '1m'))
      expect([expr, found.length > 0]).toEqual([expr, true])
    }
  },
)

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  return port
}

/** A gateway on Node as a separate process that can report the work of its requests. */
import { Session } from 'node:inspector/promises'
import { readConfig, type Vars } from '../../src/config/config.ts'
import { createLog } from '../../src/log.ts'
import { openStore } from '../../src/platform/node/store.ts'
import { createApp } from '../../src/app.ts'
import { startServer } from '../../src/platform/node/server.ts'

/** The work since the last question. */
export type Work = {
  /** Characters of JavaScript that were executed: ours, and those of our dependencies. */
  ours: number
  others: number
  /** Allocated bytes. */
  allocated: number
}

const config = readConfig(JSON.parse(process.argv[2] ?? '{}') as Vars, 'node')
const log = createLog({ level: config.logLevel, format: 'json', write: () => undefined })
const { store } = await openStore(config, log)
const { port } = await startServer({ createApp, config, store, log })

const session = new Session()
session.connect()
await session.post('Profiler.enable')
await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })

type Ranges = { startOffset: number; endOffset: number; count: number }[]

/** The executed characters of a function: each block counts as often as it ran, without its inner blocks. */
function executed(ranges: Ranges): number {
  const open: Ranges = []
  let sum = 0
  for (const range of ranges) {
    const size = range.endOffset - range.startOffset
    while ((open.at(-1)?.endOffset ?? Infinity) <= range.startOffset) open.pop()
    sum += size * (range.count - (open.at(-1)?.count ?? 0))
    open.push(range)
  }
  return sum
}

let heap = 0

async function take(): Promise<Work> {
  const allocated = process.memoryUsage().heapUsed - heap
  const { result } = await session.post('Profiler.takePreciseCoverage')
  const sumOf = (part: RegExp) =>
    result
      .filter(({ url }) => part.test(url))
      .flatMap(({ functions }) => functions.map(({ ranges }) => executed(ranges)))
      .reduce((sum, one) => sum + one, 0)
  const work = {
    ours: sumOf(/^(?!.*node_modules).*\/src\//),
    others: sumOf(/node_modules/),
    allocated,
  }
  globalThis.gc?.()
  heap = process.memoryUsage().heapUsed
  return work
}

process.on('message', () => void take().then((work) => process.send?.(work)))
process.on('disconnect', () => process.exit())
process.send?.(`http://127.0.0.1:${port}`)

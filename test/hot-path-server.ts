/** A gateway on Node as a process of its own that can say what its requests have made it do. */
import { Session } from 'node:inspector/promises'
import { readConfig, type Vars } from '../src/config.ts'
import { createLog } from '../src/log.ts'
import { openStore } from '../src/node-store.ts'
import { startServer } from '../src/server.ts'

/** What was done since the last question. */
export type Work = {
  /** Characters of JavaScript that were executed: of ours, and of what we depend on. */
  ours: number
  others: number
  /** Bytes that were allocated. */
  allocated: number
}

const config = readConfig(JSON.parse(process.argv[2] ?? '{}') as Vars, 'node')
const log = createLog({ level: config.logLevel, format: 'json', write: () => undefined })
const { store } = await openStore(config, log)
const { port } = await startServer({ config, store, log })

const session = new Session()
session.connect()
await session.post('Profiler.enable')
await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })

type Ranges = { startOffset: number; endOffset: number; count: number }[]

/** Each block of a function, by how often it ran; what is in an inner one does not count for the outer one. */
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

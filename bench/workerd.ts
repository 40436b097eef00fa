/** A worker in workerd, under Miniflare: the gateway's edge bundle, or the bare pass-through to compare it with. */
import { build } from 'esbuild'
import { Log, LogLevel, Miniflare } from 'miniflare'
import { readFileSync, readdirSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { COMPATIBILITY_DATE, edgeBundle } from '../scripts/bundle.ts'
import type { BareOptions } from './bare.ts'
import { answerParent, optionsOfParent, type Usage, type UsageQuestion } from './child.ts'
import { weirVars, type WeirOptions } from './weir-vars.ts'

const { entry, ...options } = optionsOfParent<WeirOptions & BareOptions & { entry: string }>()

const { outputFiles } = await build({ ...edgeBundle(entry, 'worker.js'), write: false })
const miniflare = new Miniflare({
  modules: true,
  script: outputFiles[0]?.text ?? '',
  compatibilityDate: COMPATIBILITY_DATE,
  host: '127.0.0.1',
  port: 0,
  cf: false,
  bindings: { ...weirVars(options), BARE: JSON.stringify(options) },
  log: new Log(LogLevel.NONE),
  // Without a reader of its output, workerd would block.
  handleRuntimeStdio(stdout: Readable, stderr: Readable) {
    stdout.resume()
    stderr.resume()
  },
})
const { origin } = await miniflare.ready
const pid = workerdOf(process.pid)
process.on('exit', () => process.kill(pid))

/** The workerd process that Miniflare has started. */
function workerdOf(parent: number): number {
  for (const name of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const [, command, rest] =
        /\((.*)\) . (\d+)/.exec(readFileSync(`/proc/${name}/stat`, 'utf8')) ?? []
      if (Number(rest) === parent && command?.startsWith('workerd')) return Number(name)
    } catch {
      // The process has ended since.
    }
  }
  throw new Error('no workerd among the processes')
}

/** The run time of all threads in ns, since the ticks of /proc/PID/stat are 10 ms. */
function cpuOf(): number {
  const tasks = readdirSync(`/proc/${pid}/task`)
  return tasks.reduce((sum, task) => {
    try {
      return sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0])
    } catch {
      // The thread has ended since.
      return sum
    }
  }, 0)
}

function usageOf(): Usage {
  const [, pages = 0] = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ').map(Number)
  return { cpu: cpuOf() / 1000, rss: pages * 4096, heap: 0, longest: 0 }
}

answerParent<UsageQuestion, Usage>(origin, usageOf)

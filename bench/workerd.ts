/** A worker in workerd, under Miniflare: the gateway's edge bundle, or the bare pass-through to compare it with. */
import { build } from 'esbuild'
import { Log, LogLevel, Miniflare } from 'miniflare'
import { readFileSync, readdirSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { COMPATIBILITY_DATE, edgeBundle } from '../scripts/bundle.ts'
import { answerParent, optionsOfParent, type Usage, type UsageQuestion } from './child.ts'
import { weirVars, type WeirOptions } from './weir-vars.ts'

const { entry, ...options } = optionsOfParent<WeirOptions & { entry: string }>()

const { outputFiles } = await build({ ...edgeBundle(entry, 'worker.js'), write: false })
const miniflare = new Miniflare({
  modules: true,
  script: outputFiles[0]?.text ?? '',
  compatibilityDate: COMPATIBILITY_DATE,
  host: '127.0.0.1',
  port: 0,
  cf: false,
  bindings: { ...weirVars(options), BARE_UPSTREAM: options.upstream },
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

/** https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: ticks of 10 ms, pages of 4 KB. */
function usageOf(): Usage {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number)
  const [user = 0, system = 0] = fields.slice(11, 13)
  return { cpu: (user + system) * 10_000, rss: (fields[21] ?? 0) * 4096, heap: 0 }
}

answerParent<UsageQuestion, Usage>(origin, usageOf)

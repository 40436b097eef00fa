/** Runs a part of the benchmark as a separate process and asks it over IPC; both ends of it. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'

export type Child<Question, Answer> = {
  /** The address that the process announced. */
  url: string
  ask(question: Question): Promise<Answer>
  stop(): Promise<void>
}

/** Starts a file of this folder with options and waits until it listens. Only one question at a time. */
export async function startChild<Question extends object, Answer>(
  file: string,
  options: object,
  flags: string[] = [],
): Promise<Child<Question, Answer>> {
  const child = fork(new URL(file, import.meta.url), [JSON.stringify(options)], {
    execArgv: [...process.execArgv, ...flags],
    // Gateways write a log line for each request; nothing reads it.
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const ended = once(child, 'exit').then(([code, signal]) => {
    throw new Error(`${file} ended (${String(code ?? signal)})`)
  })
  // It may end while no question waits for an answer.
  ended.catch(() => undefined)
  const message = async () => {
    const [value] = (await Promise.race([once(child, 'message'), ended])) as [unknown]
    return value
  }
  const url = (await message()) as string
  return {
    url,
    async ask(question) {
      const answer = message()
      child.send(question)
      return (await answer) as Answer
    },
    async stop() {
      // Without its parent, the process ends itself and what it has started.
      child.disconnect()
      await ended.catch(() => undefined)
    },
  }
}

/** The options that the parent passed to `startChild`. */
export const optionsOfParent = <Options>(): Options =>
  JSON.parse(process.argv[2] ?? '{}') as Options

/** Sends an address to the parent and answers its questions until the parent ends. */
export function answerParent<Question, Answer>(
  url: string,
  answer: (question: Question) => Answer | Promise<Answer>,
): void {
  process.on('message', (question) => {
    void Promise.resolve(answer(question as Question)).then((value) => process.send?.(value))
  })
  process.on('disconnect', () => process.exit())
  process.send?.(url)
}

/** Listens on loopback, on a free port, and never closes a connection by itself. */
export async function listen(server: Server): Promise<string> {
  server.keepAliveTimeout = 0
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return urlOf(server.address() as AddressInfo)
}

export const urlOf = ({ port }: Pick<AddressInfo, 'port'>) => `http://127.0.0.1:${port}`

/** What a process has used so far. */
export type Usage = {
  /** User and system time in µs. */
  cpu: number
  /** Resident memory in bytes, after garbage collection if that was asked for. */
  rss: number
  heap: number
  /** The longest step of its event loop while it was watched, in ms. */
  longest: number
}

/** `watch`: whether to begin or to stop watching the event loop. A loop that is watched never rests. */
export type UsageQuestion = { gc?: boolean; watch?: boolean }

/** Lets the parent ask what this process has used. For the servers that are compared. */
export function answerUsage(url: string): void {
  const loop = { isWatched: false, longest: 0 }
  answerParent<UsageQuestion, Usage>(url, ({ gc, watch }) => {
    if (gc) globalThis.gc?.()
    const { longest } = loop
    if (watch) {
      loop.longest = 0
      if (!loop.isWatched) watchSteps(loop)
    }
    loop.isWatched = watch ?? loop.isWatched
    const { user, system } = process.cpuUsage()
    const { rss, heapUsed: heap } = process.memoryUsage()
    return { cpu: user + system, rss, heap, longest }
  })
}

/** Each turn of the event loop runs the callbacks of `setImmediate` once, so between two of them others wait. */
function watchSteps(loop: { isWatched: boolean; longest: number }): void {
  let last = performance.now()
  setImmediate(function turn() {
    const now = performance.now()
    loop.longest = Math.max(loop.longest, now - last)
    last = now
    if (loop.isWatched) setImmediate(turn)
  })
}

/** The gateway as `npm start` runs it: the entry for Node, in a separate process. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Vars } from '../../src/config/config.ts'
import { ADMIN_KEY } from './gateways.ts'

export type Process = {
  pid: number
  url: string
  /** Its whole output so far. */
  output(): string
  /** Resolves with its exit code when it has ended. */
  ended: Promise<number | null>
  /** Ends it with a signal and waits until it has ended. */
  end(signal: NodeJS.Signals): Promise<number | null>
}

/** Starts it with these variables. Rejects if it ends before it listens. `entry`: the bundle to start instead. */
export async function startProcess(vars: Vars, entry?: string): Promise<Process> {
  const { PATH, HOME } = process.env
  const child = spawn(process.execPath, entry ? [entry] : ['--import', 'tsx', 'src/node.ts'], {
    env: {
      ...{ PATH, HOME, PORT: '0', NODE_ENV: 'production', GROQ_API_KEY: 'gsk_server_key' },
      ...{ ADMIN_KEY, NEW_USERS_PER_MINUTE: '0', ...vars },
    },
  })
  const ended = once(child, 'close').then(([code]) => code as number | null)
  let output = ''
  const url = await new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data: Buffer) => {
        const listens = output.includes('Weir listens on')
        output += data.toString()
        if (listens) return
        const [, found] = /Weir listens on (\S+)\n/.exec(output) ?? []
        if (found !== undefined) resolve(found)
      })
    }
    void ended.then(() => reject(new Error(`it ended: ${output}`)))
  })
  return {
    pid: child.pid ?? 0,
    url,
    output: () => output,
    ended,
    end(signal) {
      child.kill(signal)
      return ended
    },
  }
}

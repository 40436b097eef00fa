/** A real redis-server for the tests: on 127.0.0.1, on a free port, empty, and by default with nothing on disk. */
import { RedisClient, RESP_TYPES } from '@redis/client'
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Redis {
  readonly port: number
  readonly url: string
  /** Runs one command and returns the raw reply; strings come as strings, an error reply throws. */
  command(args: readonly (string | number)[]): Promise<unknown>
  /**
   * Calls per command since `resetStats`, in lower case (`object|encoding` for a subcommand). Commands inside of a
   * script are counted too. Connection and transaction commands are left out.
   */
  commandstats(): Promise<Record<string, number>>
  resetStats(): Promise<void>
  /** Drops every key. Cached scripts stay: `SCRIPT FLUSH` or `restart` removes them. */
  flush(): Promise<void>
  /** Sends a signal that ends the server (SIGTERM by default) and waits until it has ended. */
  stop(signal?: NodeJS.Signals): Promise<void>
  /** Starts it again on the same port, with the data on disk. */
  restart(): Promise<void>
}

interface Server {
  stop(signal: NodeJS.Signals): Promise<void>
}

const UNCOUNTED = new Set('info ping config select client hello auth multi exec script'.split(' '))

const MISSING =
  'redis-server is not on the PATH, and these tests run against a real one: ' +
  '`apt-get install redis-server` on Debian and Ubuntu, `brew install redis` on macOS'

/**
 * With a `folder`, a killed server has all acknowledged data when it starts again. The caller removes the folder.
 * `more` are further options of the server.
 */
export async function startRedis(folder?: string, more: string[] = []): Promise<Redis> {
  let port = await freePort()
  let server: Server | undefined
  for (let attempt = 1; server === undefined; attempt++) {
    try {
      server = await launch(port, folder, more)
    } catch (error) {
      // Another process can take the port between our check and the server's bind.
      if (attempt === 5 || !String(error).includes('in use')) throw error
      port = await freePort()
    }
  }
  const line = connection(port)

  const command = async (args: readonly (string | number)[]): Promise<unknown> => {
    const client = await line.client()
    return client.sendCommand(args.map(String))
  }

  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    line.close()
    await server?.stop(signal)
    server = undefined
  }

  const start = async (): Promise<void> => {
    server = await launch(port, folder, more)
    await command(['PING'])
  }

  await command(['PING'])

  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    command,
    async commandstats() {
      const counts: Record<string, number> = {}
      const info = String(await command(['INFO', 'commandstats']))
      for (const [, name = '', calls] of info.matchAll(/^cmdstat_(.+?):calls=(\d+)/gm)) {
        if (UNCOUNTED.has(name.toLowerCase().split('|')[0] ?? '') || calls === '0') continue
        counts[name.toLowerCase()] = Number(calls)
      }
      return counts
    },
    async resetStats() {
      await command(['CONFIG', 'RESETSTAT'])
    },
    async flush() {
      await command(['FLUSHALL', 'SYNC'])
    },
    stop,
    async restart() {
      await stop('SIGKILL')
      await start()
    },
  }
}

type Client = ReturnType<typeof open>

/**
 * One connection that opens when it is needed. It does not reconnect by itself and queues nothing while the server is
 * unreachable: a command fails at once, and the next one tries a new connection.
 */
export function connection(port: number, strings: 'text' | 'bytes' = 'text') {
  let current: Promise<Client> | undefined
  let opened: Client | undefined

  const connect = async (): Promise<Client> => {
    const client = open(port, strings)
    client.on('error', () => {
      if (opened === client) current = undefined
    })
    opened = client
    try {
      await client.connect()
    } catch (error) {
      if (opened === client) current = undefined
      throw error
    }
    return client
  }

  return {
    client: (): Promise<Client> => (current ??= connect()),
    close(): void {
      if (opened?.isOpen) opened.destroy()
      current = undefined
      opened = undefined
    },
  }
}

function open(port: number, strings: 'text' | 'bytes') {
  // Unlike `createClient`, this makes the class with all commands only once.
  const RESP2 = { RESP: 2 } as const
  return RedisClient.factory(RESP2)({
    ...RESP2,
    disableOfflineQueue: true,
    socket: { host: '127.0.0.1', port, reconnectStrategy: false },
    commandOptions:
      strings === 'bytes' ? { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } } : {},
  })
}

async function launch(port: number, folder?: string, more: string[] = []): Promise<Server> {
  const dir = folder ?? mkdtempSync(join(tmpdir(), 'weir-redis-'))
  const appendonly = folder === undefined ? 'no' : 'yes'
  const options = ['--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', appendonly]
  // Acknowledged data has been written to disk. With `everysec`, writing waits while a slow disk
  // syncs.
  options.push('--appendfsync', 'no')
  const child = spawn(
    'redis-server',
    [...options, ...more, '--daemonize', 'no', '--dir', dir, '--loglevel', 'notice'].map(String),
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const { pid } = child
  if (pid !== undefined) {
    // This shell holds the other end of one of our pipes. When this process ends in any way, also
    // by SIGKILL, the pipe closes, and the shell ends the server and removes its directory.
    const guard = spawn('sh', ['-c', 'read -r _; kill -9 "$0"; rm -rf "$1"', String(pid), dir], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    })
    guard.unref()
    child.once('exit', () => guard.kill('SIGKILL'))
  }
  if (folder === undefined) {
    child.once('close', () => rmSync(dir, { recursive: true, force: true }))
  }
  await ready(child)

  return {
    async stop(signal) {
      if (child.exitCode !== null || child.signalCode !== null) return
      const gone = once(child, 'close')
      child.kill(signal)
      await gone
    },
  }
}

/** Resolves when the server reports that it takes connections. */
function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let output = ''
    const read = (chunk: Buffer): void => {
      output += chunk.toString()
      if (!output.includes('Ready to accept connections')) return
      child.stdout?.off('data', read).resume()
      child.stderr?.off('data', read).resume()
      resolve()
    }
    child.stdout?.on('data', read)
    child.stderr?.on('data', read)
    child.once('error', (error: NodeJS.ErrnoException) =>
      reject(error.code === 'ENOENT' ? new Error(MISSING) : error),
    )
    child.once('close', () => reject(new Error(`redis-server ended at once:\n${output}`)))
  })
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

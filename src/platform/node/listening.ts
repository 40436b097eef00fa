/** What Weir says about the address of a server: where it listens, or why it cannot. */
import { once } from 'node:events'
import { createServer } from 'node:net'

/** The address that leads to this server, on this machine. */
export const addressOf = (host: string | undefined, port: number, basePath = ''): string =>
  `http://${urlHost(host)}:${port}${basePath}`

function urlHost(host = 'localhost'): string {
  return host.includes(':') ? `[${host}]` : host
}

/** One line about an address that cannot be listened on; `undefined` if the error is another one. */
export function cannotListen(error: unknown): string | undefined {
  if (!(error instanceof Error && 'syscall' in error && 'code' in error)) return
  if (!/^(listen|getaddrinfo)$/.test(String(error.syscall))) return
  return error.code === 'EADDRINUSE'
    ? `The port is in use by another program (${error.message}). Stop that program, or set PORT to another port.`
    : `Weir cannot listen: ${error.message}. Check HOST and PORT.`
}

/** Rejects if another program listens on this address. */
export async function assertFree(host: string, port: number): Promise<void> {
  const server = createServer().listen(port, host)
  await once(server, 'listening')
  server.close()
  await once(server, 'close')
}

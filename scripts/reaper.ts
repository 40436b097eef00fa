/**
 * Ends the children of this process when it ends, even after a kill -9: otherwise workerd would continue and keep the
 * port.
 *
 * A separate process waits until our end of a pipe closes, and then ends the children.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { subscribe } from 'node:diagnostics_channel'

const REAPER = `
const pids = new Set()
require('node:readline').createInterface({ input: process.stdin })
  .on('line', (line) => line[0] === '-' ? pids.delete(line.slice(1)) : pids.add(line))
  .on('close', () => { for (const pid of pids) try { process.kill(pid, 'SIGKILL') } catch {} })
`

/** From now on, the children that this process starts end with it. */
export function reapChildren(): void {
  const reaper = spawn(process.execPath, ['-e', REAPER], {
    stdio: ['pipe', 'ignore', 'ignore'],
    // A Ctrl-C in the terminal must not reach it.
    detached: true,
  })
  reaper.unref()
  // https://nodejs.org/api/diagnostics_channel.html#event-child_process
  subscribe('child_process', (message) => {
    const { process: child } = message as { process: ChildProcess }
    child.once('spawn', () => reaper.stdin.write(`${child.pid}\n`))
    child.once('exit', () => reaper.stdin.write(`-${child.pid}\n`))
  })
}

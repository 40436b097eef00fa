/**
 * What this process starts, asks and removes is overheard for the search in `leaks.ts`: the environment and the output of
 * processes, the calls of gateways, and files. Once loaded, it does so for all test files of a worker.
 */
import { ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { addText, type Text } from './leaks.ts'
import { addAnswer, addRequest, addSession, addVariables } from './secrets.ts'

/** All ways to start a process go through this method, but not those that wait for its end. */
const processes = ChildProcess.prototype as unknown as {
  spawn(this: ChildProcess, options: { envPairs?: string[] }): unknown
}
const { spawn } = processes
processes.spawn = function (options) {
  const result = spawn.call(this, options)
  addVariables(Object.fromEntries((options.envPairs ?? []).map((pair) => pair.split(/=(.*)/s, 2))))
  for (const stream of [this.stdout, this.stderr]) if (stream) overhear(stream)
  return result
}

/** A listener would let the output flow before its reader is there. */
function overhear(stream: Readable): void {
  const output: Text = { place: 'the output of a process', text: '' }
  addText(output)
  const push = stream.push.bind(stream)
  stream.push = (chunk: Buffer | string | null, encoding) => {
    if (chunk !== null) output.text += String(chunk)
    return push(chunk, encoding)
  }
}

const { fetch } = globalThis
globalThis.fetch = async (input, init) => {
  const sent = input instanceof Request ? input : undefined
  addRequest(new Headers(init?.headers ?? sent?.headers), init?.body)
  const answer = await fetch(input, init)
  // Answers of others have no such header.
  if (!answer.headers.has('x-weir-id')) return answer
  addSession(answer.headers)
  const isChange = (init?.method ?? sent?.method ?? 'GET') !== 'GET'
  const isAdmin = /\/admin\b/.test(answer.url)
  if (answer.status >= 400 || (isAdmin && isChange)) {
    const read = (text: string) => addAnswer(answer.status, text)
    void answer
      .clone()
      .text()
      .then(read, () => undefined)
  }
  return answer
}

/** Files larger than this, in bytes, are histories without end that tests make. */
const LARGE = 8_000_000

/** Adds the files of a folder that are not programs. */
async function addFiles(folder: string): Promise<void> {
  const entries = await fs.promises.readdir(folder, { recursive: true, withFileTypes: true })
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name)
    // The secrets that development makes up have a file of their own.
    if (!entry.isFile() || /\.(m?js|css|tsx?|lua|map|secrets)$/.test(entry.name)) continue
    if (fs.statSync(path).size > LARGE) continue
    addText({ place: 'a document', text: await fs.promises.readFile(path, 'utf8') })
  }
}

const { rm } = fs.promises
fs.promises.rm = async (path, options) => {
  if (options?.recursive) await addFiles(String(path)).catch(() => undefined)
  return rm(path, options)
}
syncBuiltinESMExports()

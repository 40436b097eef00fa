/** `npm run replay -- FILE`: counts the usage that could not be counted when it happened, from a captured log. */
import { open } from 'node:fs/promises'
import { ConfigError, readConfig } from '../src/config/config.ts'
import { loadEnvFiles } from '../src/platform/node/env-files.ts'
import { useProxies } from '../src/platform/node/http.ts'
import { createLog } from '../src/log.ts'
import { openStore } from '../src/platform/node/store.ts'
import { REPLAY_BATCH, StoreError, type Entry } from '../src/store/store.ts'
import { readUnrecorded } from './log-entries.ts'
import { NoText, logLines } from './log-lines.ts'

/** Longer than for a request, because nobody waits for this script. */
const TIMEOUT_MS = 10_000

const [file] = process.argv.slice(2)
if (file === undefined) fail('Name the file with the log lines: npm run replay -- FILE')
loadEnvFiles()
try {
  await replay(file)
} catch (error) {
  const missing = error instanceof Error && 'code' in error && 'path' in error
  if (error instanceof NoText) fail(`${file} cannot be read: ${error.message}`)
  if (!(error instanceof ConfigError || error instanceof StoreError || missing)) throw error
  fail(error.message)
}

async function replay(file: string): Promise<void> {
  const captured = await open(file)
  useProxies(process.env)

  const config = { ...readConfig(process.env, 'node'), storeTimeoutMs: TIMEOUT_MS }
  const log = createLog({ level: 'warn', format: 'text', write: (line) => console.error(line) })
  const { direct: store, storage, close } = await openStore(config, log)
  const sums = { counted: 0, known: 0, refused: 0 }
  const unreadable: number[] = []
  const newer: number[] = []
  let batch: Entry[] = []

  const send = async () => {
    if (batch.length === 0) return
    for (const answer of await store.replay(batch)) {
      if ('error' in answer) sums.refused += 1
      else if (answer.applied) sums.counted += 1
      else sums.known += 1
    }
    batch = []
  }

  try {
    let number = 0
    for await (const line of logLines(captured)) {
      number += 1
      const entry = readUnrecorded(line, Date.now())
      if (entry === 'unreadable') unreadable.push(number)
      else if (entry === 'newer') newer.push(number)
      else if (entry) batch.push(entry)
      if (batch.length === REPLAY_BATCH) await send()
    }
    await send()
  } finally {
    await close()
  }
  console.log(
    `${sums.counted} counted in ${storage}, ${sums.known} skipped: counted before, older than 7 days, ` +
      'or without a lease (the reservation stays charged).',
  )
  if (sums.refused) console.error(`${sums.refused} events could not be counted by the store.`)
  if (unreadable.length) console.error(`Lines that cannot be read: ${unreadable.join(', ')}`)
  if (newer.length) {
    console.error(`Lines that only a newer version of Weir can count: ${newer.join(', ')}`)
  }
  if (sums.refused || unreadable.length || newer.length) process.exitCode = 1
}

function fail(message: string): never {
  console.error(message)
  process.exit(1)
}

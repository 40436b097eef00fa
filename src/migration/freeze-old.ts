/** The old system's file, read as a stream and frozen as a state of ours. */
import { createReadStream } from 'node:fs'
import { open, rm, type FileHandle } from 'node:fs/promises'
import { v7 } from 'uuid'
import { StoreError } from '../store/store.ts'
import { createIds } from '../usage/user-id.ts'
import { damagedOf, digestOf, isSame, stampOf, writeFrozen, type Frozen } from './frozen.ts'
import { gatherRequests, readOldRecord, type OldRequest } from './old-records.ts'
import { createRebuild, eventOf, type RebuildOptions } from './rebuild.ts'
import type { Report } from './report.ts'
import { splitArray } from './split.ts'

export type OldFileOptions = Omit<RebuildOptions, 'now'> & {
  /** Where the old array is. */
  file: string
  userHashSecret: string | undefined
  now(): number
}

/** So many places of damaged records are told. */
const POSITIONS = 100

/** Requests whose ids are made at once: each is a job of another thread, and most of its time is the way there. */
const HASHED = 100

/** Writes the frozen copy, and beside it what is damaged. Throws `StoreError` when the file changes meanwhile. */
export async function freezeOld(options: OldFileOptions, copy: string): Promise<Frozen> {
  const { file } = options
  const now = options.now()
  const source = await stampOf(file)
  const ids = createIds(options.userHashSecret)
  const requests = gatherRequests()
  const rebuild = createRebuild({ ...options, now })
  const report: Report = { records: 0, leftOut: 0, damaged: 0, positions: [] }
  let waiting: OldRequest[] = []

  async function enter(request: OldRequest): Promise<void> {
    waiting.push(request)
    if (waiting.length >= HASHED) await enterWaiting()
  }

  async function enterWaiting(): Promise<void> {
    const entering = waiting.map(async (request) => ({
      event: await eventOf(v7({ msecs: request.at }), request, ids),
      records: request.records,
    }))
    waiting = []
    for (const { event, records } of await Promise.all(entering)) {
      if (rebuild.enter(event)) report.records += records
      else report.leftOut += 1
    }
  }

  await rm(damagedOf(copy), { force: true })
  let aside: FileHandle | undefined
  try {
    for await (const { position, text, value } of splitArray(createReadStream(file))) {
      const record = readOldRecord(value, now)
      if (record) {
        for (const request of requests.add(record)) await enter(request)
        continue
      }
      aside ??= await open(damagedOf(copy), 'w')
      await aside.writeFile(Buffer.concat([text, Buffer.from('\n')]))
      report.damaged += 1
      if (report.damaged <= POSITIONS) report.positions.push(position)
    }
    await aside?.sync()
  } finally {
    await aside?.close()
  }
  for (const request of requests.end()) await enter(request)
  await enterWaiting()

  const id = await digestOf(file)
  if (!source || !isSame(source, await stampOf(file))) {
    throw new StoreError(`${file} is being written to`)
  }
  const frozen: Frozen = { state: rebuild.state(), id, source, report }
  await writeFrozen(copy, frozen)
  return frozen
}

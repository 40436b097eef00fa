/** Reads the old system's file as a stream, and freezes it as a state of Weir. */
import { createReadStream } from 'node:fs'
import { open, rm, type FileHandle } from 'node:fs/promises'
import { v7 } from 'uuid'
import { OWNER_ONLY } from '../store/local/private-file.ts'
import { StoreError } from '../store/store.ts'
import { createIds } from '../identity/ids.ts'
import { damagedOf, digestOf, isSameFile, stampOf, writeFrozen, type Frozen } from './frozen.ts'
import { eventOf } from './old-event.ts'
import { gatherRequests, readOldRecord, type OldRequest } from './old-records.ts'
import { createRebuild, type RebuildOptions } from './rebuild.ts'
import type { MigrationReport } from './report.ts'
import { splitArray } from './split.ts'

export type OldFileOptions = Omit<RebuildOptions, 'now'> & {
  /** The path of the old array. */
  file: string
  userHashSecret: string | undefined
  now(): number
}

/** The most positions of damaged records in a report. */
const POSITIONS = 100

/**
 * Requests whose ids are computed together. Each id is a job in another thread, and most of its cost is the switch to
 * that thread.
 */
const HASHED = 100

/**
 * Writes the frozen copy, and the damaged records beside it. Throws `StoreError` if the file changes in the meantime.
 */
export async function freezeOld(options: OldFileOptions, copy: string): Promise<Frozen> {
  const { file } = options
  const now = options.now()
  const source = await stampOf(file)
  const ids = createIds(options.userHashSecret)
  const rebuild = createRebuild({ ...options, now })
  const report: MigrationReport = { records: 0, leftOut: 0, damaged: 0, positions: [] }

  for await (const requests of batchesOf(readRequests(file, damagedOf(copy), now, report))) {
    const entering = requests.map(async (request) => ({
      event: await eventOf(v7({ msecs: request.at }), request, ids),
      records: request.records,
    }))
    for (const { event, records } of await Promise.all(entering)) {
      if (rebuild.enter(event)) report.records += records
      else report.leftOut += 1
    }
  }

  const id = await digestOf(file)
  if (!source || !isSameFile(source, await stampOf(file))) {
    throw new StoreError(`${file} is being written to`)
  }
  const frozen: Frozen = { state: rebuild.state(), id, source, report }
  await writeFrozen(copy, frozen)
  return frozen
}

/** The requests of an old file. Damaged records go into a separate file and into the report. */
async function* readRequests(
  file: string,
  damaged: string,
  now: number,
  report: MigrationReport,
): AsyncGenerator<OldRequest> {
  const requests = gatherRequests()
  await rm(damaged, { force: true })
  let aside: FileHandle | undefined
  try {
    for await (const { position, text, value } of splitArray(createReadStream(file))) {
      const record = readOldRecord(value, now)
      if (record) {
        yield* requests.add(record)
        continue
      }
      aside ??= await open(damaged, 'wx', OWNER_ONLY)
      await aside.writeFile(Buffer.concat([text, Buffer.from('\n')]))
      report.damaged += 1
      if (report.damaged <= POSITIONS) report.positions.push(position)
    }
    await aside?.sync()
  } finally {
    await aside?.close()
  }
  yield* requests.end()
}

async function* batchesOf(requests: AsyncIterable<OldRequest>): AsyncGenerator<OldRequest[]> {
  let batch: OldRequest[] = []
  for await (const request of requests) {
    batch.push(request)
    if (batch.length < HASHED) continue
    yield batch
    batch = []
  }
  yield batch
}

/**
 * The snapshot of the local store: a state, and the sequence number of the last command in it.
 *
 * The file is one JSON document with a line for each item, so that it can be written and read in pieces:
 *
 *     {"v":2,"seq":7,"state":{"usage":[
 *     {…},
 *     {…}
 *     ],"events":[
 *     ]}}
 *
 * The same document in another layout is read too, as far as it fits into one string.
 */
import { stat } from 'node:fs/promises'
import { NewerVersion } from '../../ledger/reading.ts'
import { VERSION } from '../../ledger/shapes.ts'
import { checkVersion, isNewer } from './file-version.ts'
import { linesOf } from './lines.ts'
import { unlessMissing, unusable } from './lock.ts'
import { piecesOf, replaceFile } from './private-file.ts'
import { StoreError } from '../store.ts'

export type SnapshotReader = {
  /** Receives everything but the state, first. */
  head(head: Record<string, unknown>): void
  /** Receives each item of a list of the state. */
  item(list: string, item: unknown): void
}

type Lists = Record<string, unknown[]>

/** Writes a snapshot in one step, and returns its size in characters. `ready` is called before the old one is replaced. */
export async function writeSnapshot(
  path: string,
  head: { seq: number; [more: string]: unknown },
  state: Lists,
  ready?: () => Promise<void>,
): Promise<number> {
  let size = 0
  function* counted() {
    for (const piece of piecesOf(snapshotLines({ v: VERSION, ...head }, state))) {
      size += piece.length
      yield piece
    }
  }
  await replaceFile(path, counted(), ready)
  return size
}

function* snapshotLines(head: object, state: Lists): Generator<string> {
  let opening = `${JSON.stringify(head).slice(0, -1)},"state":{`
  for (const [list, items] of Object.entries(state)) {
    yield `${opening}${JSON.stringify(list)}:[\n`
    const last = items.length - 1
    for (const [index, item] of items.entries()) {
      yield `${JSON.stringify(item)}${index < last ? ',' : ''}\n`
    }
    opening = '],'
  }
  yield END
}

const END = ']}}\n'
/** The first line ends with the beginning of a list. */
const OPENS = Buffer.from('[\n')
const NEXT_LIST = /^\],"(\w+)":\[\n$/

/** Passes a snapshot on, the head first. Throws if it is not a snapshot. */
export async function readSnapshot(path: string, reader: SnapshotReader): Promise<void> {
  const lines = linesOf(path)
  const { value: first = Buffer.alloc(0) } = (await lines.next()) as { value?: Buffer }
  const inLines = first.subarray(-OPENS.length).equals(OPENS)
  await (inLines ? readItems : readWhole)(first, lines, reader)
}

async function readItems(
  first: Buffer,
  lines: AsyncIterable<Buffer>,
  { head, item }: SnapshotReader,
): Promise<void> {
  const { state, ...rest } = JSON.parse(`${first.toString()}${END}`) as { state: Lists }
  head(rest)
  let list = Object.keys(state)[0]
  for await (const line of lines) {
    const text = line.toString()
    if (list === undefined) throw new Error('there is more after the end')
    if (text === END) list = undefined
    else if (text.startsWith(']')) {
      list = NEXT_LIST.exec(text)?.[1]
      if (list === undefined) throw new Error('not a list of the state')
    } else item(list, JSON.parse(text.replace(/,?\n$/, '')))
  }
  if (list !== undefined) throw new Error('the end is missing')
}

async function readWhole(
  first: Buffer,
  lines: AsyncIterable<Buffer>,
  { head, item }: SnapshotReader,
): Promise<void> {
  const parts = [first]
  for await (const line of lines) parts.push(line)
  const { state, ...rest } = JSON.parse(Buffer.concat(parts).toString()) as { state: object }
  head(rest)
  for (const [list, items] of Object.entries(state)) {
    if (!Array.isArray(items)) throw new TypeError(`${list} is not a list`)
    for (const one of items) item(list, one)
  }
}

/**
 * Passes the items of a snapshot on and returns its sequence number and size; both are 0 if there is no file. Throws
 * `StoreError` if the file is not a snapshot of Weir.
 */
export async function restoreSnapshot(
  file: string,
  item: SnapshotReader['item'],
): Promise<{ seq: number; size: number }> {
  let seq = 0
  try {
    const { size } = (await stat(file).catch(unlessMissing)) ?? {}
    if (size === undefined) return { seq, size: 0 }
    if (size === 0) {
      const advice = `restore a copy, or move it away to continue with ${file}.journal`
      throw new StoreError(`${file} is empty; ${advice}`)
    }
    await readSnapshot(file, {
      head(found) {
        if (typeof found.v !== 'number' || typeof found.seq !== 'number') {
          throw new Error('not a snapshot')
        }
        checkVersion(file, found.v)
        seq = found.seq
      },
      item,
    })
    return { seq, size }
  } catch (cause) {
    if (cause instanceof StoreError) throw cause
    if (cause instanceof NewerVersion) throw isNewer(file)
    if ((cause as NodeJS.ErrnoException).syscall) throw unusable('read', file, cause)
    const advice = 'move it away to start without usage'
    throw new StoreError(`${file} is not a usage file of Weir; ${advice}`, { cause })
  }
}

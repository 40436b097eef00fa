/** Documents of an import in the shape of this build. Documents of a newer version of Weir are refused. */
import type { UserParts } from '../../../ledger/merge.ts'
import { NewerVersion, readDocument } from '../../../ledger/reading.ts'
import type { Kind } from '../../../ledger/shapes.ts'
import { NewerError, StoreError } from '../../store.ts'

export const newer = () =>
  new NewerError(
    'a newer version of Weir has written the data that would be changed; update this instance',
  )

/** The document in a text, or undefined if there is none. Throws `StoreError` if a newer version wrote it. */
export function parse<K extends Kind>(kind: K, text: string | undefined) {
  let value: unknown
  try {
    value = JSON.parse(text ?? 'null')
  } catch {
    return undefined
  }
  return read(kind, value)
}

/** Checks a document to be imported. Throws `StoreError` if it is invalid. */
export function sound<K extends Kind>(kind: K, value: unknown) {
  const doc = read(kind, value)
  if (doc) return doc
  throw new StoreError(`an imported document is not a valid ${kind} document`)
}

/** Checks a user to be imported. Throws `StoreError` if a document of the user is invalid. */
export const soundUser = ({ id, usage, past, profile }: UserParts): UserParts => ({
  id,
  usage: usage && sound('usage', usage),
  past: past && sound('past', past),
  profile: profile && sound('profile', profile),
})

function read<K extends Kind>(kind: K, value: unknown) {
  try {
    return readDocument(kind, value)
  } catch (error) {
    throw error instanceof NewerVersion ? newer() : error
  }
}

/** What a migration has to say when it is over. */

/** What became of the records. */
export type Report = {
  /** Old records that were taken over, or the documents and events in files of our own. */
  records: number
  /** Requests of days that are not kept any more. */
  leftOut: number
  damaged: number
  /** Places of damaged records in the file, from 1; the first of them. */
  positions: number[]
  /** Where the damaged records are now. */
  setAside?: string
  /** The very same file was migrated before, so nothing of it was taken over again. */
  before?: true
}

/** What operators look for in the log. */
export const migrated = ({ records, before }: Report) =>
  `📊 Migrated ${records} records from file to database` +
  (before ? ': the same file was migrated before, and nothing of it counts twice' : '')

export const imported = ({ records }: Report) => `📊 Imported ${records} records of an old file`

/** What else there is to log. */
export const fieldsOf = ({ leftOut, damaged, positions, setAside }: Report) => ({
  ...(leftOut && { leftOut }),
  ...(damaged && { damaged, positions, setAside }),
})

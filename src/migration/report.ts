/** The report of a migration. */

/** The result for the records. */
export type MigrationReport = {
  /** The imported records of the old system, or the imported documents and events of Weir's own files. */
  records: number
  /** Requests of days that are no longer kept. */
  leftOut: number
  damaged: number
  /** The positions of the first damaged records in the file, from 1. */
  positions: number[]
  /** The file that now contains the damaged records. */
  setAside?: string
  /** The same file was migrated before, so nothing was imported again. */
  before?: true
}

/** Operators search the log for this text. */
export const migrated = ({ records, before }: MigrationReport) =>
  `📊 Migrated ${records} records from file to database` +
  (before ? ': this file was migrated before, so nothing was added' : '')

export const imported = ({ records }: MigrationReport) =>
  `📊 Imported ${records} records of an old file`

/** The other fields of the log line. */
export const fieldsOf = ({ leftOut, damaged, positions, setAside }: MigrationReport) => ({
  ...(leftOut && { leftOut }),
  ...(damaged && { damaged, positions, setAside }),
})

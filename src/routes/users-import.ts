/** `POST /api/admin/users/import`: names, labels and plans of users, as CSV. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../http/admin.ts'
import { fields } from '../http/json-body.ts'
import { parseCsv, textBody } from '../http/text-body.ts'
import { createIds } from '../identity/ids.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { forEach } from './at-once.ts'
import { refusalOf } from './fields.ts'
import { profileOf } from './users.ts'
import { importRow } from './users-schemas.ts'

/** Enough for the most rows. */
export const IMPORT_BYTES = 1024 * 1024
const MOST_USERS = 1000
/** These include the header, and one row more, which shows that there are too many. */
const MOST_RECORDS = MOST_USERS + 2

const COLUMNS = Object.keys(importRow.shape)
const ROW_REFUSAL = refusalOf(COLUMNS)

/** Checks all rows before it writes the first one. */
export function importHandler(deps: Deps, admin: Admin) {
  const ids = createIds(deps.config.userHashSecret)

  return async (c: AppContext): Promise<Response> => {
    const rows = rowsOf(parseCsv(await textBody(c), MOST_RECORDS))
    const store = storeOf(deps)
    const stamp = admin.stamp(c)
    const users = await Promise.all(
      rows.map(async (row) => ({ ...row, userId: await ids.ofUser(row.user) })),
    )
    await storeAnswer(
      forEach(users, ({ userId, label, plan }) =>
        store.execute({
          op: 'profile',
          user: userId,
          ...profileOf({ label, plan }, stamp.now),
          ...stamp,
        }),
      ),
    )
    return c.json({
      success: true,
      users: users.map(({ user, userId }) => ({ user, userId })),
    })
  }
}

/** The rows of the file. Throws `invalid_request` that names the first wrong row; the header is row 1. */
function rowsOf([header = [], ...records]: string[][]) {
  const isKnown = header.every((name, n) => COLUMNS.includes(name) && header.indexOf(name) === n)
  if (!isKnown || !header.includes('user')) {
    throw wrong(`The first row must name the columns: ${COLUMNS.join(',')}. Only user is needed.`)
  }
  if (records.length > MOST_USERS) {
    throw wrong(`At most ${MOST_USERS} users are imported at once; split the file.`)
  }
  const seen = new Map<string, number>()
  return records.map((cells, n) => {
    const row = n + 2
    const told = `Row ${row}: `
    if (cells.length !== header.length) {
      throw wrong(`${told}it has ${cells.length} cells, and the first row has ${header.length}.`)
    }
    const given = header.map((name, at) => [name, cells[at]]).filter(([, text]) => text !== '')
    const read = fields({ user: '', ...Object.fromEntries(given) }, importRow, {
      ...ROW_REFUSAL,
      message: (param) => told + ROW_REFUSAL.message(param),
    })
    const before = seen.get(read.user)
    if (before !== undefined) throw wrong(`${told}this user is in row ${before} too.`)
    seen.set(read.user, row)
    return read
  })
}

const wrong = (message: string) => new ApiError('invalid_request', message)

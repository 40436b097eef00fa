/** The search for users, by whatever an admin knows about one. */
import type { Deps } from '../context.ts'
import { createIds } from '../identity/ids.ts'
import { KEY_ID, createIssuedKeys } from '../identity/issued-key.ts'
import { labelWords, wordsOf } from '../ledger/labels.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { User } from '../store/store.ts'
import { USER_ID } from './user-query.ts'

/** The most users that a search finds. */
const FOUND = 20
/** The most users whose labels are looked at if a search has several words. */
const LOOKED_AT = 200

/** The beginning of an id. */
const ID_START = /^[\w-]{1,21}$/

/** Users who were found. A token or a key is `whole`: it is a secret, and finds its user alone. */
export type Found = { users: User[]; whole: boolean }

/**
 * Builds the search by the beginning of each word of a label, by the beginning of an id, or by a whole id, token, key, id of a
 * key, or name of the application's own. It finds at most `FOUND` users.
 */
export function createUserSearch(deps: Pick<Deps, 'config' | 'store'>) {
  const { config } = deps
  const ids = createIds(config.userHashSecret)
  const keys =
    config.userHashSecret === undefined ? undefined : createIssuedKeys(config.userHashSecret)

  return async function search(q: string): Promise<Found> {
    const [, owner] = KEY_ID.exec(q) ?? []
    const key = await keys?.read(q)
    const named = owner ?? key?.userId
    const whole = named === undefined ? [q, await ids.user(q), await ids.ofUser(q)] : [named]
    const [users, others] = await Promise.all([
      storeAnswer(storeOf(deps).users(whole.filter((id) => USER_ID.test(id)))),
      named === undefined ? startingWith(deps, q) : [],
    ])
    const all = new Map([...users, ...others].map((user) => [user.profile.id, user]))
    return { users: [...all.values()].slice(0, FOUND), whole: users.length > 0 }
  }
}

/** Users whose label has words that begin with those of a text, or whose id begins with it. */
export async function startingWith(deps: Pick<Deps, 'store'>, q: string): Promise<User[]> {
  const store = storeOf(deps)
  const words = Object.keys(labelWords(q))
  const [first = ''] = words
  const isStart = ID_START.test(q)
  const [labelled, { profiles }, active] = await storeAnswer(
    Promise.all([
      first === '' ? [] : store.searchLabels(first, words.length > 1 ? LOOKED_AT : FOUND),
      isStart ? store.listProfiles(FOUND, q) : { profiles: [] },
      isStart ? store.searchIds(q, FOUND) : [],
    ]),
  )
  const byLabel = labelled.filter((user) =>
    words.every((word) => wordsOf(user).some((own) => own.startsWith(word))),
  )
  const byId = [...profiles.map(({ id }) => id).filter((id) => id.startsWith(q)), ...active]
  const others = [...new Set(byId)]
    .slice(0, FOUND)
    .filter((id) => !byLabel.some(({ profile }) => profile.id === id))
  return [...byLabel, ...(await storeAnswer(store.users(others)))].slice(0, FOUND)
}

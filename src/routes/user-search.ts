/** The search for users, by what an admin has of one. */
import type { Deps } from '../context.ts'
import { createIds } from '../identity/ids.ts'
import { KEY_ID, createIssuedKeys } from '../identity/issued-key.ts'
import { labelWords, wordsOf } from '../ledger/labels.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { User } from '../store/store.ts'
import { USER_ID } from './user-query.ts'

/** The most users that a search finds. */
const FOUND = 20
/** Users whose labels are looked at, where a search has several words. */
const LOOKED_AT = 200

/** The beginning of an id. */
const ID_START = /^[\w-]{1,21}$/

/**
 * Builds the search by the beginning of each word of a label, by the beginning of an id, or by a whole id, token, key, id of a
 * key, or name of the application's own. It finds at most `FOUND` users.
 */
export function createUserSearch(
  deps: Pick<Deps, 'config' | 'store'>,
): (q: string) => Promise<User[]> {
  const { config } = deps
  const ids = createIds(config.userHashSecret)
  const keys =
    config.userHashSecret === undefined ? undefined : createIssuedKeys(config.userHashSecret)

  return async function search(q) {
    const store = storeOf(deps)
    const [, owner] = KEY_ID.exec(q) ?? []
    const key = await keys?.read(q)
    const named = owner ?? key?.userId
    const whole = named === undefined ? [q, await ids.user(q), await ids.ofUser(q)] : [named]
    const words = Object.keys(labelWords(q))
    const [first = ''] = words
    const isStart = named === undefined && ID_START.test(q)
    const [users, labelled, { profiles }, active] = await storeAnswer(
      Promise.all([
        Promise.all(whole.filter((id) => USER_ID.test(id)).map((id) => store.user(id))),
        named === undefined && first !== ''
          ? store.searchLabels(first, words.length > 1 ? LOOKED_AT : FOUND)
          : [],
        isStart ? store.listProfiles(FOUND, q) : { profiles: [] },
        isStart ? store.searchIds(q, FOUND) : [],
      ]),
    )
    const byLabel = labelled.filter((user) =>
      words.every((word) => wordsOf(user).some((own) => own.startsWith(word))),
    )
    const byId = [...profiles.map(({ id }) => id).filter((id) => id.startsWith(q)), ...active]
    const known = [...users.filter((user) => user !== undefined), ...byLabel]
    const others = [...new Set(byId)]
      .slice(0, FOUND)
      .filter((id) => !known.some(({ profile }) => profile.id === id))
    const more = await storeAnswer(Promise.all(others.map((id) => store.user(id))))
    const all = [...known, ...more.filter((user) => user !== undefined)]
    return [...new Map(all.map((user) => [user.profile.id, user])).values()].slice(0, FOUND)
  }
}

import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Cursor, Store } from '../src/store/store.ts'
import { DAY_MS, dateOf, type Block, type Command, type UserDoc } from '../src/usage/record.ts'
import { admitOf, commandSequence, settleOf, START } from './commands.ts'
import { reducerState } from './state.ts'
import { useDatabase } from './database.ts'
import { localStore, redisStore, RETENTION, send, usersOf } from './stores.ts'

const { redis, upstash } = useDatabase()

const LIMITS = { model: { tokensPerDay: 500, requestsPerDay: 5 } }
const ahead = admitOf({ id: 'id-0', now: START + 2 * DAY_MS, limits: LIMITS })
const AHEAD: Command[] = [
  ahead,
  admitOf({ id: 'id-1', now: START, limits: LIMITS, global: {} }),
  { op: 'clear', now: START },
  settleOf(ahead, { charged: 3 }),
]

test('redis and local give the same answers and end in the same documents as the reducer', async () => {
  await fc.assert(
    fc.asyncProperty(commandSequence(60), async (commands) => {
      await redis.flush()
      const remote = redisStore(upstash)
      const now = Math.max(...commands.map((command) => command.now))
      // Nothing ages here, since in Redis that goes by the time of day.
      const local = await localStore(() => 0)
      const { users, days, ...state } = reducerState(RETENTION)
      try {
        for (const command of commands) {
          const answer = state.do(command)
          expect(await send(remote, command)).toEqual(answer)
          expect(await send(local, command)).toEqual(answer)
        }
        for (const [id, doc] of users) {
          expect(JSON.parse(String(await redis.command(['GET', `weir:1:user:${id}`])))).toEqual(doc)
        }
        const dates = [...days.keys()]
        for (const store of [remote, local]) {
          const found = await store.days(dates)
          expect(new Map(found.map((day) => [day.date, day]))).toEqual(days)
        }
        expect(await remote.events(1000)).toEqual(await local.events(1000))
        // What has aged is cleared out of the indexes of Redis sooner or later.
        const fresh = ({ seen = now }: UserDoc) => seen >= now - RETENTION.userDays * DAY_MS
        for (const sort of ['lastActive', 'tokens'] as const) {
          const query = { sort, limit: 10, now }
          const [listed, other] = [await usersOf(remote, query), await usersOf(local, query)]
          expect(listed.filter(fresh)).toEqual(other.filter(fresh))
          for (const ascending of [true, false]) {
            const paged = async (store: Store) => {
              const found: UserDoc[] = []
              let from: Cursor | undefined
              do {
                const page = await store.listUsers({ sort, ascending, from, limit: 1, now })
                found.push(...page.users)
                from = page.next
              } while (from)
              return found.filter(fresh)
            }
            expect(await paged(remote)).toEqual(await paged(local))
          }
        }
        const ids = [...users.keys()]
        for (const store of [remote, local]) {
          expect(await Promise.all(ids.map((id) => store.user(id)))).toEqual([...users.values()])
        }
        const inForce = ({ until }: Block) => until === undefined || until > now
        const isBlocked = (user: UserDoc) => Object.values(user.blocks).some(inForce)
        const blocked = ids.filter((id) => isBlocked(users.get(id) as UserDoc)).sort()
        for (const store of [remote, local]) {
          const found = (await store.blockedUsers(10)).filter(isBlocked)
          expect(found.map(({ id }) => id).sort()).toEqual(blocked)
        }
        for (const store of [remote, local]) {
          expect(await store.audit(1000)).toEqual(state.audit)
          for (const [hash, until] of state.sessions) {
            expect(await store.session(hash, 0)).toBe(until !== undefined)
          }
        }
        expect(dates.map((date) => dateOf(Date.parse(date)))).toEqual(dates)
      } finally {
        await local.remove()
      }
    }),
    {
      numRuns: 300,
      // Clearing while a user's clock is two days ahead: their day has begun, and its quota stays.
      examples: [[AHEAD]],
    },
  )
}, 120_000)

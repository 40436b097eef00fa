import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Command } from '../../src/ledger/commands.ts'
import { hasMoreThanBlocks } from '../../src/ledger/blocks.ts'
import { wordsOf } from '../../src/ledger/labels.ts'
import { readDocument } from '../../src/ledger/reading.ts'
import type { Kind } from '../../src/ledger/shapes.ts'
import type { Block, DayDoc, ProfileDoc, QuotaDoc, UsageDoc } from '../../src/ledger/documents.ts'
import { DAY_MS, dateOf } from '../../src/ledger/windows.ts'
import { alertsIn } from '../../src/store/alerts.ts'
import type { Cursor, Store, User } from '../../src/store/store.ts'
import { admitOf, commandSequence, settleOf, START, watchedSequence } from '../support/commands.ts'
import { useDatabase } from '../support/database.ts'
import type { Redis } from '../support/redis.ts'
import { reducerState } from '../support/state.ts'
import { localStore, redisStore, RETENTION, send, usersOf } from '../support/stores.ts'

const { redis, upstash } = useDatabase()

const LIMITS = { model: { tokensPerDay: 500, requestsPerDay: 5 } }
const ahead = admitOf({ id: 'id-0', now: START + 2 * DAY_MS, limits: LIMITS })
const AHEAD: Command[] = [
  ahead,
  admitOf({ id: 'id-1', now: START, limits: LIMITS, everyone: {} }),
  { op: 'clear', now: START },
  settleOf(ahead, { charged: 3 }),
]

/** Nothing expires: the local store uses the ledger's clock for this, and Redis the real time. */
const KEEP = { ...RETENTION, userDays: 3650, historyDays: 3650 }

/** The documents of a kind in the database, by the part of the key after the kind. */
async function stored(redis: Redis, name: string): Promise<Map<string, unknown>> {
  const keys = (await redis.command(['KEYS', `weir:{2}:${name}:*`])) as string[]
  const texts = await Promise.all(keys.map((key) => redis.command(['GET', key])))
  return new Map(
    keys.map((key, n) => [key.slice(`weir:{2}:${name}:`.length), JSON.parse(String(texts[n]))]),
  )
}

/** The stored documents of a kind, with money as numbers. */
const readAs = async (name: string, kind: Kind) =>
  new Map([...(await stored(redis, name))].map(([id, doc]) => [id, readDocument(kind, doc)]))

test('redis and local give the same answers and end in the same documents as the reducer', async () => {
  await fc.assert(
    fc.asyncProperty(fc.oneof(commandSequence(60), watchedSequence(50)), async (commands) => {
      await redis.flush()
      const remote = redisStore(upstash, { retention: KEEP })
      const now = Math.max(...commands.map((command) => command.now))
      const local = await localStore(() => 0, { retention: KEEP })
      // Entries that are kept for a week expire by the ledger's clock in the files, and by real
      // time in Redis.
      const isOld = (command: Command) =>
        command.op === 'enter' && command.now - command.event.at > 5 * DAY_MS
      const ages = now - START > 6 * DAY_MS || commands.some(isOld)
      const stores = ages ? [remote] : [remote, local]
      const { usage, past, profiles, quotas, days, ...state } = reducerState(KEEP)
      try {
        for (const command of commands) {
          const answer = state.do(command)
          for (const store of stores) expect(await send(store, command)).toEqual(answer)
        }
        expect(await readAs('usage', 'usage')).toEqual(usage)
        expect(await readAs('past', 'past')).toEqual(past)
        // Redis removes the counters of models that were last used days ago. They no longer affect
        // any answer.
        const clock = quotas.get('*')?.at ?? 0
        const counted = (all: Map<string, unknown>) =>
          new Map(
            [...(all as Map<string, QuotaDoc>)].filter(
              ([scope, { at }]) => scope !== '*' && at > clock - DAY_MS,
            ),
          )
        expect(counted(await readAs('quota', 'quota'))).toEqual(counted(quotas))
        const all = await redis.command(['GET', 'weir:{2}:quota'])
        expect(readDocument('quota', JSON.parse(String(all)))).toEqual(quotas.get('*'))
        const dates = [...days.keys()]
        for (const store of stores) {
          const found = await store.days(dates)
          expect(new Map(found.map((day) => [day.date, day]))).toEqual(days)
        }
        // Only the current day of the ledger's clock has separate rows.
        for (const [key, day] of await stored(redis, 'day')) {
          if (key.includes(':')) expect(key.slice(0, 10)).toBe(dateOf(clock))
          else expect(readDocument('day', day)).toBeDefined()
        }
        for (const store of stores) expect(await store.events(1000)).toEqual(state.events())
        for (const store of stores) expect(await store.alerts()).toEqual(alertsIn(state.outbox()))
        const refusals = await Promise.all(stores.map((store) => store.refusals(dates, 0)))
        for (const one of refusals) expect(one).toEqual(refusals[0])
        const inForce = ({ until }: Block) => until === undefined || until > now
        const isBlocked = ({ blocks }: ProfileDoc) => Object.values(blocks).some(inForce)
        /** A user without the blocks that have ended: each store removes those at another time. */
        const alive = ({ usage, profile }: User) => ({
          usage,
          // The order of names in a document says nothing.
          profile: {
            ...profile,
            blocks: new Map(Object.entries(profile.blocks).filter(([, block]) => inForce(block))),
          },
        })
        // Redis removes old index entries sooner or later.
        const fresh = ({ usage }: User) => usage.indexed.at >= now - KEEP.userDays * DAY_MS
        for (const sort of stores.length > 1 ? (['lastActive', 'tokens'] as const) : []) {
          const query = { sort, limit: 10, now }
          const [listed, other] = [await usersOf(remote, query), await usersOf(local, query)]
          expect(listed.filter(fresh).map(alive)).toEqual(other.filter(fresh).map(alive))
          for (const ascending of [true, false]) {
            const paged = async (store: Store) => {
              const found: User[] = []
              let from: Cursor | undefined
              do {
                const page = await store.listUsers({ sort, ascending, from, limit: 1, now })
                found.push(...page.users)
                from = page.next
              } while (from)
              return found.filter(fresh).map(alive)
            }
            expect(await paged(remote)).toEqual(await paged(local))
          }
        }
        const blocked = [...profiles.values()].filter(isBlocked)
        const byId = (a: ProfileDoc, b: ProfileDoc) => (a.id < b.id ? -1 : 1)
        for (const store of stores) {
          for (const { id, at } of usage.values()) {
            // In Redis they expire by real time.
            if (at <= clock - KEEP.userDays * DAY_MS) continue
            const user = await store.user(id)
            expect(user?.usage).toEqual(usage.get(id))
            expect(user?.past.days).toEqual(past.get(id)?.days ?? {})
          }
          const found = (await store.blockedUsers(10)).filter(isBlocked)
          expect(found.sort(byId)).toEqual(blocked.sort(byId))
          expect(await store.audit(1000)).toEqual(state.audit)
          for (const [hash, until] of state.sessions) {
            if (until !== undefined && until <= clock) continue
            expect(await store.session(hash, 0)).toBe(until !== undefined)
          }
        }
        const overviews = stores.map((store) =>
          store.overview({ dates, users: { sort: 'tokens', limit: 0, now }, events: 0 }),
        )
        const [first, second = first] = await Promise.all(overviews)
        expect(first?.quotas).toEqual(second?.quotas)
        const settings = state.settings()
        const policy = { ...(settings && { settings }), plans: Object.fromEntries(state.plans) }
        const more = [...profiles.values()].filter(hasMoreThanBlocks).sort(byId)
        for (const [n, store] of stores.entries()) {
          expect(await store.policy()).toEqual(policy)
          expect((await Promise.all(overviews))[n]?.policy).toEqual(policy)
          const { profiles: some, next } = await store.listProfiles(1)
          const rest = next === undefined ? [] : (await store.listProfiles(9, next)).profiles
          expect([...some, ...rest].map(withoutBlocks)).toEqual(more.map(withoutBlocks))
        }
        for (const prefix of ['ada', 'lo', 'émi', 'adam']) {
          const hasWord = ({ id }: ProfileDoc | UsageDoc) =>
            wordsOf({ usage: usage.get(id), profile: profiles.get(id) }).some((word) =>
              word.startsWith(prefix),
            )
          const known = [...usage.values(), ...profiles.values()]
            .filter(hasWord)
            .map(({ id }) => id)
          for (const store of stores) {
            const found = (await store.searchLabels(prefix, 50)).map((user) => user.usage.id)
            expect(found.toSorted()).toEqual([...new Set(known)].sort())
          }
        }
        expect(sorted(dates)).toEqual(dates.toSorted())
      } finally {
        await local.remove()
      }
    }),
    {
      numRuns: 150,
      // `clear` while the clock is two days ahead.
      examples: [[AHEAD]],
    },
  )
}, 120_000)

const withoutBlocks = ({ blocks: _, ...others }: ProfileDoc) => others

const sorted = (dates: DayDoc['date'][]) => dates.map((date) => dateOf(Date.parse(date))).sort()

/**
 * The data of `npm run screenshots`: days of an invented application, the same on every run. The ledger decides what is
 * granted and what is refused, as it does for a gateway, so that no number contradicts another.
 */
import type { Alerts } from '../src/alerts/alerts.ts'
import type { Config } from '../src/config/config.ts'
import { createIds } from '../src/identity/ids.ts'
import { watchOf } from '../src/ledger/alerts.ts'
import type { Admitted } from '../src/ledger/answers.ts'
import type { Admit, Command } from '../src/ledger/commands.ts'
import type { Event } from '../src/ledger/events.ts'
import { costOf, digitsOf } from '../src/ledger/money.ts'
import { rowsFor } from '../src/ledger/policy.ts'
import { rowsOf } from '../src/ledger/rows.ts'
import { VERSION } from '../src/ledger/shapes.ts'
import { DAY_MS, nextDay } from '../src/ledger/windows.ts'
import { priceFor } from '../src/metering/cost.ts'
import { REPLAY_BATCH, type Entry, type Store } from '../src/store/store.ts'
import { deeds, type Kind } from './screenshots-deeds.ts'
import {
  AUDIO,
  BLOCKED,
  BUSY,
  EAGER,
  ERASED,
  HOSTILE,
  NAMED,
  NOW,
  UNUSED,
  keyOf,
} from './screenshots-people.ts'
import { USERS, inventRequests, type Request } from './screenshots-requests.ts'

/** Users whose pages show something of interest. */
export type Seeded = Record<'busy' | 'blocked' | 'hostile' | 'named' | 'audio' | 'unused', string>

/** Days whose requests are admitted. Those before are entered, which is faster and knows no limit. */
const ADMITTED_DAYS = 2

type World = {
  store: Store
  config: Readonly<Config>
  /** The time of what happens, of which alerts need to know. */
  clock: { now: number }
  /** Absent if no alerts are sent. */
  alerts?: Alerts
}

/** Fills a store with the last days. */
export async function seed(world: World, days: number, kind: Kind = {}): Promise<Seeded> {
  const { store, config, clock, alerts } = world
  const { ofUser } = createIds(config.userHashSecret)
  const ids = await Promise.all(
    Array.from({ length: USERS }, (_, number) => ofUser(`user-${number}`)),
  )
  const [unused, erased] = await Promise.all([ofUser(UNUSED), ofUser(ERASED)])
  const user = (number: number) => ids[number] ?? ''

  const steps: { at: number; step: Entry | (() => Promise<unknown>) }[] = []
  for (const command of deeds({ user, unused, erased }, kind)) {
    steps.push({ at: command.now, step: () => store.execute<Command>(command) })
  }
  const admittedFrom = nextDay(NOW) - ADMITTED_DAYS * DAY_MS
  for (const request of inventRequests(days, kind)) {
    const { at, totalMs } = request
    const end = at + totalMs
    const event = eventOf(request, user(request.user), config)
    if (at < admittedFrom) {
      steps.push({ at: end, step: { op: 'enter', now: end, user: event.user, event } })
      continue
    }
    let admitted: Admitted | undefined
    const admit = admitOf(request, user(request.user), config)
    const begin = async () => {
      const answer = await store.execute(admit)
      if (answer.ok) admitted = answer
    }
    const settle = async () => {
      if (!admitted) return
      const watch = config.alerts && watchOf(admitted.limits ?? [])
      const about = { user: event.user, event: { ...event, at: admitted.at } }
      const command = { op: 'settle', now: end, ...about, ...(watch && { watch }) } as const
      const { alerts: due } = await store.execute(command)
      if (due) await alerts?.deliver()
    }
    steps.push({ at, step: begin })
    if (end <= NOW) steps.push({ at: end, step: settle })
  }

  let entries: Entry[] = []
  const enter = async () => {
    if (entries.length > 0) await store.replay(entries)
    entries = []
  }
  for (const { at, step } of steps.sort((a, b) => a.at - b.at)) {
    clock.now = at
    if (typeof step === 'function') {
      await enter()
      await step()
      await alerts?.tend()
    } else if (entries.push(step) === REPLAY_BATCH) await enter()
  }
  clock.now = NOW

  await report(EAGER, 1.02)
  await report(BLOCKED, 3.4)
  /** A browser reports a multiple of what was metered. */
  async function report(number: number, factor: number) {
    const known = await store.user(user(number))
    const resetAt = nextDay(NOW)
    const models = Object.fromEntries(
      Object.entries(known ? rowsOf(known.usage) : {}).map(
        ([name, { charged = 0, requests = 0 }]) => [
          name,
          { tokens: Math.round(charged * factor), requests, resetAt },
        ],
      ),
    )
    const about = { user: user(number), models, limits: { models: {} } }
    await store.execute({ op: 'report', now: NOW, ...about })
  }

  return {
    ...{ busy: user(BUSY), blocked: user(BLOCKED), hostile: user(HOSTILE) },
    ...{ named: user(NAMED), audio: user(AUDIO), unused },
  }
}

/** What the gate would ask for a request. */
function admitOf(request: Request, user: string, config: Readonly<Config>): Admit {
  const { id, at, model, reserved, completion, audioMs, tag } = request
  const { limits, globalLimits, prices } = config
  const key = keyOf(request.user, model)
  const price = priceFor(prices, model, request)
  return {
    ...{ op: 'admit', id, user, model, now: at, lasts: config.requestMs },
    ...{ reserved, completion, limits: rowsFor(limits, model) },
    ...(globalLimits && { everyone: rowsFor(globalLimits, model) }),
    ...(audioMs !== undefined && { audioMs }),
    ...(price && { price }),
    ...(tag !== undefined && { tag }),
    ...(key && { key: { id: key.id, hash: key.hash } }),
    ...(config.alerts && { watch: 1 }),
    ip: `198.51.100.${40 + (request.user % 200)}`,
  }
}

/** How a request ends. */
function eventOf(request: Request, user: string, { prices }: Readonly<Config>): Event {
  const { prompt, completion, audioMs, reserved, ...told } = request
  const { outcome, model } = request
  const total = prompt + completion
  const share = { exact: 1, estimated: 0.6, failed: 0 }[outcome]
  const price = priceFor(prices, model, request)
  const used = { prompt, completion, ...(audioMs !== undefined && { audioMs }) }
  const costs = price && {
    reservedCost: digitsOf(costOf({ ...used, completion: Math.max(0, reserved - prompt) }, price)),
    cost: digitsOf(Math.round(costOf(used, price) * share)),
  }
  const key = keyOf(request.user, model)
  return {
    ...told,
    ...{ v: VERSION, user, session: `session-${user.slice(0, 4)}-${request.at % 2}` },
    ...(key && { key: key.id }),
    ...(outcome === 'exact' && audioMs === undefined && { prompt, completion, total }),
    ...{ reserved, charged: Math.round(total * share) },
    ...costs,
    ...(audioMs !== undefined && { reservedAudioMs: audioMs }),
    ...(audioMs !== undefined && outcome !== 'failed' && { audioMs }),
  }
}

/** Sends commands to the ledger script. One call carries the commands of several requests, as far as the runtime allows. */
import type { Command } from '../../ledger/commands.ts'
import type { Admitted, Answer } from '../../ledger/answers.ts'
import type { Retention } from '../../ledger/advance.ts'
import { QUOTA_DAYS } from '../../ledger/capacity.ts'
import { DEFAULT_PLAN, unverifiedScope } from '../../ledger/plans.ts'
import { isTotal, type Standing } from '../../ledger/policy.ts'
import { CLOCK_TOLERANCE_MS } from '../../ledger/rules.ts'
import { ALL_MODELS } from '../../ledger/documents.ts'
import { dateOf } from '../../ledger/windows.ts'
import { guard, scriptOf, type Scripts } from './call.ts'
import { gather } from './gather.ts'
import {
  PREFIX,
  dayKey,
  erasedKey,
  newUsersKey,
  onceKey,
  outboxKey,
  planKey,
  profileKey,
  quotaKey,
  rowKey,
  settingsKey,
  tagsKey,
  usageKey,
  windowsKey,
} from './keys.ts'
import { createRides } from './rides.ts'
import { REPLAY_BATCH, type Failed } from '../store.ts'

/** The most commands in one script call, so that no call blocks the database for long. */
const BATCH = REPLAY_BATCH

/**
 * The most commands of each kind that the database gets at once. A flood of requests waits here, so it does not make
 * the database miss its deadline.
 */
const AT_ONCE = 2 * BATCH

/** Users whose plan is remembered, so that its document is read with the others. */
const KNOWN_PLANS = 1000

/** How long a settlement waits for others to share its call. No client waits for a settlement. */
const SETTLE_GATHER_MS = 25

/**
 * How the requests of an instance share calls: whole calls if a request may wait for a promise of another one, and only
 * settlements if it may not.
 */
export type Sharing = 'calls' | 'settlements' | 'none'

export type CommandOptions = {
  retention: Retention
  /** The ledger script, from `redis/script-files.ts`. */
  script: string
  /**
   * Milliseconds that a command may be ahead of the ledger's clock. Beyond that, the script uses the time of the
   * database.
   */
  tolerance?: number
  sharing: Sharing
  warn(event: string, fields: Record<string, unknown>): void
}

type Reply = { answers: (Answer | Failed)[]; damaged?: string[] }

/** A command, and the JSON that is sent. */
type Written = { command: Command; text: string }

const written = (command: Command): Written => ({ command, text: JSON.stringify(command) })

/**
 * Builds the functions that run commands in the database: `runAll` runs several in one call, `run` shares its call with
 * other requests.
 */
export function commandRunner(redis: Scripts, options: CommandOptions) {
  const { sharing, warn } = options
  const head = headOf(options)
  const ledger = scriptOf(options.script)
  const plans = createKnownPlans()
  // If so, the counters of a long window may have outlived the user's document.
  const isBrief = options.retention.userDays < QUOTA_DAYS

  async function send(all: Written[]): Promise<(Answer | Failed)[]> {
    const keys = new Set(all.flatMap(({ command }) => keysOf(command, plans.of(command), isBrief)))
    const args = [head, ...all.map(({ text }) => text)]
    const { answers, damaged } = await guard(async () => {
      const reply = JSON.parse(await ledger<string>(redis, [...keys], args)) as Reply | null
      if (reply?.answers?.length !== all.length) throw new Error('not an answer of the script')
      return reply
    })
    if (damaged) warn('store.damaged', { keys: damaged, setAside: `${PREFIX}damaged:` })
    return answers.map((bare, n) => {
      const answer = withMoney(bare)
      plans.learn(all[n]?.command, answer)
      return withLimits(answer, all[n]?.command)
    })
  }

  const runAll = (commands: Command[]) => send(commands.map(written))
  const { alone, ...senders } = sendersOf(sharing, send)

  return {
    runAll,
    /** Runs the script without a command, to see whether the database runs it. */
    runNone: () => ledger<string>(redis, [quotaKey(ALL_MODELS)], [head]),
    run: (command: Command) => (senders[command.op] ?? alone)(written(command)),
  }
}

type Sender = (item: Written) => Promise<Answer | Failed | undefined>

type Senders = { alone: Sender } & Partial<Record<Command['op'], Sender>>

/** How commands are sent. No client waits for a settlement, and admin commands are rare. */
function sendersOf(
  sharing: Sharing,
  send: (all: Written[]) => Promise<(Answer | Failed)[]>,
): Senders {
  if (sharing === 'settlements') {
    const { carry, ride } = createRides(send)
    return { alone: carry, settle: ride }
  }
  const alone: Sender = async (item) => (await send([item]))[0]
  if (sharing === 'none') return { alone }
  const together = (schedule: (go: () => void) => void) =>
    gather({ schedule, size: BATCH, atOnce: AT_ONCE, run: send })
  const soon = together((go) => setImmediate(go))
  return {
    alone,
    admit: soon,
    report: soon,
    settle: together((go) => setTimeout(go, SETTLE_GATHER_MS)),
  }
}

/** The answer with money as numbers. The script writes it as texts of digits. Changes the answer. */
export function withMoney<T extends Answer | Failed>(answer: T): T {
  if (!('ok' in answer)) return answer
  if (!answer.ok) {
    if (answer.reason === 'limit') {
      answer.used = Number(answer.used)
      answer.asked = Number(answer.asked)
    }
    return answer
  }
  if ('alerts' in answer && typeof answer.alerts === 'object') {
    for (const alert of Object.values(answer.alerts)) {
      if (alert.limit !== undefined) alert.limit = Number(alert.limit)
      if (alert.used !== undefined) alert.used = Number(alert.used)
    }
  }
  const standings = [
    ...('limits' in answer && answer.limits ? answer.limits : []),
    ...('total' in answer ? [answer.total, ...Object.values(answer.models)] : []),
  ]
  for (const { used, reserved } of standings) {
    for (const amounts of [...Object.values(used), ...Object.values(reserved ?? {})]) {
      amounts.usd = Number(amounts.usd)
    }
  }
  return answer
}

/** A standing in an answer of the script, which leaves out limits that the command named. */
type Bare = Omit<Standing, 'limits'> & Partial<Pick<Standing, 'limits'>>

/** The answer to an admission with the limits that the command named. */
export function withLimits(answer: Answer | Failed, command: Command | undefined): Answer | Failed {
  if (command?.op !== 'admit' || !('limits' in answer) || !answer.limits) return answer
  const rows = { user: command.limits, everyone: command.everyone, unverified: undefined }
  const limits = answer.limits.map((standing: Bare): Standing => {
    const { of, model, used } = standing
    const row = standing.limits ?? rows[of]?.[isTotal(model) ? 'total' : 'model'] ?? {}
    return { of, model, limits: row, used }
  })
  return { ...answer, limits }
}

/** The settings that each call passes to the script. */
function headOf({ retention, tolerance = CLOCK_TOLERANCE_MS }: CommandOptions): string {
  const { userDays, historyDays, eventsKept } = retention
  return JSON.stringify({
    // Field by field, so that no other field is sent.
    ...{ userDays, historyDays, eventsKept },
    // JSON has no Infinity. The script treats a missing tolerance as infinite.
    ...(Number.isFinite(tolerance) && { tolerance }),
  })
}

/**
 * The keys that a command touches, as far as they are known in advance. `plan` is the user's plan, if it is remembered;
 * `isBrief` tells that users are kept for a shorter time than the longest window.
 */
function keysOf(command: Command, plan: string | undefined, isBrief: boolean): string[] {
  const keys = [quotaKey(ALL_MODELS)]
  const userKeys = (user: string): string[] => [
    usageKey(user),
    profileKey(user),
    ...(isBrief ? [windowsKey(user)] : []),
  ]
  switch (command.op) {
    case 'clear':
      return [...keys, dayKey(dateOf(command.now))]
    case 'login':
    case 'logout':
    case 'note':
      return keys
    case 'raise':
    case 'take':
    case 'tried':
      return [...keys, outboxKey]
    case 'plan':
      return [...keys, settingsKey, planKey(command.name)]
    case 'settings':
      return [...keys, settingsKey]
    case 'block':
    case 'erase':
    case 'profile':
    case 'key':
      return [...keys, profileKey(command.user)]
    case 'reset':
      return [...keys, usageKey(command.user)]
    case 'report':
      return [...keys, ...userKeys(command.user), ...planKeys(command.claims?.plan, plan)]
    case 'admit': {
      const { model, id, user, claims, newUsers, unverified } = command
      const more = newUsers ? [newUsersKey] : []
      if (unverified !== undefined) more.push(...unverifiedKeys(model))
      const plans = planKeys(claims?.plan, plan)
      return [...keys, ...userKeys(user), quotaKey(model), onceKey(id), ...plans, ...more]
    }
    case 'settle':
    case 'enter': {
      const { id, model, at, tag } = command.event
      const date = dateOf(at)
      const ended = [usageKey(command.user), quotaKey(model), dayKey(date), rowKey(date, model)]
      if (tag !== undefined) ended.push(tagsKey(date))
      if (command.op === 'enter') return [...keys, ...ended, onceKey(id), erasedKey(command.user)]
      return command.unverified
        ? [...keys, ...ended, ...unverifiedKeys(model)]
        : [...keys, ...ended]
    }
  }
}

const unverifiedKeys = (model: string): string[] =>
  [ALL_MODELS, model].map((scope) => quotaKey(unverifiedScope(scope)))

/** The settings, the default plan, and the plans that the user may have. */
const planKeys = (...names: (string | undefined)[]): string[] => [
  settingsKey,
  ...[DEFAULT_PLAN, ...names].flatMap((name) => (name === undefined ? [] : planKey(name))),
]

/** The plans of the users who were seen last. */
function createKnownPlans() {
  const plans = new Map<string, string>()
  return {
    of: (command: Command) => ('user' in command ? plans.get(command.user) : undefined),
    learn(command: Command | undefined, answer: Answer | Failed): void {
      if (command?.op !== 'admit' && command?.op !== 'report') return
      if (!('ok' in answer) || !answer.ok) return
      // A plan that is not stored is also looked up with each admission.
      const { plan, unknownPlan = plan } = answer as Pick<Admitted, 'plan' | 'unknownPlan'>
      if (unknownPlan === undefined && plans.size === 0) return
      plans.delete(command.user)
      if (unknownPlan !== undefined) plans.set(command.user, unknownPlan)
      const [oldest] = plans.keys()
      if (plans.size > KNOWN_PLANS && oldest !== undefined) plans.delete(oldest)
    },
  }
}

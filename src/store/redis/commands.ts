/**
 * Sends commands to the ledger script. Where the runtime allows it, one call carries the commands of several
 * requests.
 */
import type { Answer, Command } from '../../ledger/commands.ts'
import type { Retention } from '../../ledger/documents.ts'
import { DEFAULT_PLAN, unverifiedScope } from '../../ledger/plans.ts'
import { isTotal, type Standing } from '../../ledger/policy.ts'
import { CLOCK_TOLERANCE_MS } from '../../ledger/rules.ts'
import { ALL_MODELS } from '../../ledger/shapes.ts'
import { dateOf } from '../../ledger/windows.ts'
import { guard, scriptOf, type Scripts } from './call.ts'
import { gather } from './gather.ts'
import {
  PREFIX,
  QUOTA_DAYS,
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
import { REPLAY_BATCH, type Failed } from '../store.ts'

/** The most commands in one script call, so that no call blocks the database for long. */
const BATCH = REPLAY_BATCH

/**
 * The most commands of each kind that the database has at once. So a flood of requests waits here, and does not make
 * the database miss its deadline.
 */
const AT_ONCE = 2 * BATCH

/** Users whose plan is remembered, so that its document is read with the others. */
const KNOWN_PLANS = 1000

/** How long a settlement waits for others to share its call. No client waits for a settlement. */
const SETTLE_GATHER_MS = 25

export type CommandOptions = {
  retention: Retention
  /** The ledger script, from `redis/script-files.ts`. */
  script: string
  /**
   * Milliseconds that a command may be ahead of the ledger's clock. Beyond that, the script uses the time of the
   * database.
   */
  tolerance?: number
  /** Whether commands of different requests may share a call. The runtime must allow it. */
  batch: boolean
  warn(event: string, fields: Record<string, unknown>): void
}

type Reply = { answers: (Answer | Failed)[]; damaged?: string[] }

/**
 * Builds the functions that run commands in the database: `runAll` in one call, `run` together with others if `batch`
 * allows it.
 */
export function commandRunner(redis: Scripts, options: CommandOptions) {
  const { batch, warn } = options
  const head = headOf(options)
  const ledger = scriptOf(options.script)
  const plans = createKnownPlans()
  // Then the counters of a long window may have outlived the user's document.
  const isBrief = options.retention.userDays < QUOTA_DAYS

  async function runAll(commands: Command[]): Promise<(Answer | Failed)[]> {
    const keys = new Set(commands.flatMap((command) => keysOf(command, plans.of(command), isBrief)))
    const args = [head, ...commands.map((command) => JSON.stringify(command))]
    const { answers, damaged } = await guard(async () => {
      const reply = JSON.parse(await ledger<string>(redis, [...keys], args)) as Reply | null
      if (reply?.answers?.length !== commands.length) throw new Error('not an answer of the script')
      return reply
    })
    if (damaged) warn('store.damaged', { keys: damaged, setAside: `${PREFIX}damaged:` })
    return answers.map((bare, n) => {
      const answer = withMoney(bare)
      plans.learn(commands[n], answer)
      return withLimits(answer, commands[n])
    })
  }

  const alone = async (command: Command) => (await runAll([command]))[0]
  const together = (schedule: (go: () => void) => void) =>
    batch ? gather({ schedule, size: BATCH, atOnce: AT_ONCE, run: runAll }) : alone
  const soon = together((go) => setImmediate(go))
  const later = together((go) => setTimeout(go, SETTLE_GATHER_MS))
  /** How a command is sent. No client waits for a settlement, and admin commands are rare. */
  const senders: Partial<Record<Command['op'], typeof alone>> = {
    admit: soon,
    report: soon,
    settle: later,
  }

  return {
    runAll,
    /** Runs the script without a command, to see whether the database runs it. */
    runNone: () => ledger<string>(redis, [quotaKey(ALL_MODELS)], [head]),
    run: (command: Command) => (senders[command.op] ?? alone)(command),
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
    keep: { userDays, historyDays, eventsKept },
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

/** The plans of the users that were seen last. */
function createKnownPlans() {
  const plans = new Map<string, string>()
  return {
    of: (command: Command) => ('user' in command ? plans.get(command.user) : undefined),
    learn(command: Command | undefined, answer: Answer | Failed): void {
      if (command?.op !== 'admit' && command?.op !== 'report') return
      if (!('ok' in answer) || !answer.ok) return
      const plan = 'plan' in answer ? answer.plan : undefined
      if (plan === undefined && plans.size === 0) return
      plans.delete(command.user)
      if (plan !== undefined) plans.set(command.user, plan)
      const [oldest] = plans.keys()
      if (plans.size > KNOWN_PLANS && oldest !== undefined) plans.delete(oldest)
    },
  }
}

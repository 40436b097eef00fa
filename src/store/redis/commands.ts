/**
 * Sends commands to the ledger script. Where the runtime allows it, one call carries the commands of several
 * requests.
 */
import type { Answer, Command } from '../../ledger/commands.ts'
import type { Retention } from '../../ledger/documents.ts'
import { isTotal, type Standing } from '../../ledger/policy.ts'
import { CLOCK_TOLERANCE_MS } from '../../ledger/rules.ts'
import { ALL_MODELS } from '../../ledger/shapes.ts'
import { dateOf } from '../../ledger/windows.ts'
import { guard, scriptOf, type Scripts } from './call.ts'
import { gather } from './gather.ts'
import {
  PREFIX,
  dayKey,
  erasedKey,
  newUsersKey,
  onceKey,
  profileKey,
  quotaKey,
  rowKey,
  usageKey,
} from './keys.ts'
import { REPLAY_BATCH, type Failed } from '../store.ts'

/** The most commands in one script call, so that no call blocks the database for long. */
const BATCH = REPLAY_BATCH

/**
 * The most commands of each kind that the database has at once. So a flood of requests waits here, and does not make
 * the database miss its deadline.
 */
const AT_ONCE = 2 * BATCH

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

  async function runAll(commands: Command[]): Promise<(Answer | Failed)[]> {
    const keys = new Set(commands.flatMap(keysOf))
    const args = [head, ...commands.map((command) => JSON.stringify(command))]
    const { answers, damaged } = await guard(async () => {
      const reply = JSON.parse(await ledger<string>(redis, [...keys], args)) as Reply | null
      if (reply?.answers?.length !== commands.length) throw new Error('not an answer of the script')
      return reply
    })
    if (damaged) warn('store.damaged', { keys: damaged, setAside: `${PREFIX}damaged:` })
    return answers.map((answer, n) => withLimits(answer, commands[n]))
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

/** A standing in an answer of the script, which leaves out the limits that the command named. */
type Bare = Omit<Standing, 'limits'>

/** The answer to an admission with the limits that the command named. */
export function withLimits(answer: Answer | Failed, command: Command | undefined): Answer | Failed {
  if (command?.op !== 'admit' || !('limits' in answer) || !answer.limits) return answer
  const rows = { user: command.limits, everyone: command.everyone }
  const limits = answer.limits.map((standing: Bare): Standing => {
    const { of, model, used } = standing
    return { of, model, limits: rows[of]?.[isTotal(model) ? 'total' : 'model'] ?? {}, used }
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

/** The keys that a command touches, as far as they are known in advance. */
function keysOf(command: Command): string[] {
  const keys = [quotaKey(ALL_MODELS)]
  if (command.op === 'clear') return [...keys, dayKey(dateOf(command.now))]
  if (!('user' in command)) return keys
  const { user } = command
  if (command.op === 'block' || command.op === 'erase') return [...keys, profileKey(user)]
  keys.push(usageKey(user))
  if (command.op === 'report') return [...keys, profileKey(user)]
  if (command.op === 'admit') {
    const { model, id, newUsers } = command
    const more = newUsers ? [newUsersKey] : []
    return [...keys, profileKey(user), quotaKey(model), onceKey(id), ...more]
  }
  const { id, model, at } = command.event
  const date = dateOf(at)
  keys.push(quotaKey(model), dayKey(date), rowKey(date, model))
  return command.op === 'enter' ? [...keys, onceKey(id), erasedKey(user)] : keys
}

/** Today's numbers in Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/ */
import { newDay } from '../ledger/new-documents.ts'
import { usdOf } from '../ledger/money.ts'
import { linesOf, type ModelLimits } from '../ledger/policy.ts'
import { ALL_MODELS } from '../ledger/documents.ts'
import type { RefusalCounts } from '../ledger/events.ts'
import { dateOf } from '../ledger/windows.ts'
import type { Overview } from '../store/store.ts'
import { partUsed } from './dashboard.ts'
import { codesOf } from './refusals.ts'
import { everyoneStanding } from './usage.ts'

type Sample = { labels?: Record<string, string>; value: number }

type Metric = { name: string; type: 'counter' | 'gauge'; help: string; samples: Sample[] }

const OUTCOMES = ['exact', 'estimated', 'failed'] as const
const TYPES = ['prompt', 'cached', 'completion', 'charged'] as const

/** The metrics of the current day (UTC). Counters begin again at midnight. `limits` are those of everyone. */
export function metricsOf(
  { days, quotas }: Pick<Overview, 'days' | 'quotas'>,
  refusals: RefusalCounts,
  limits: ModelLimits,
  now: number,
): string {
  const today = dateOf(now)
  const day = days.find(({ date }) => date === today) ?? newDay(today)
  const models = Object.entries(day.models)
  const metrics: Metric[] = [
    {
      name: 'weir_requests_total',
      type: 'counter',
      help: 'Requests that ended today, by model and outcome.',
      samples: models.flatMap(([model, row]) =>
        OUTCOMES.map((outcome) => ({ labels: { model, outcome }, value: row[outcome] })),
      ),
    },
    {
      name: 'weir_tokens_total',
      type: 'counter',
      help: 'Tokens of today: charged, and of these prompt (cached is a part of it) and completion as they were reported.',
      samples: models.flatMap(([model, row]) =>
        TYPES.map((type) => ({ labels: { model, type }, value: row[type] })),
      ),
    },
    {
      name: 'weir_cost_usd_total',
      type: 'counter',
      help: 'What the charged tokens of today cost in dollars, of models with a price.',
      samples: models.map(([model, row]) => ({ labels: { model }, value: usdOf(row.cost) })),
    },
    {
      name: 'weir_refusals_total',
      type: 'counter',
      help: 'Requests that were refused today, by the code of the error.',
      samples: codesOf(refusals).map(({ code, count }) => ({ labels: { code }, value: count })),
    },
    {
      name: 'weir_limit_ratio',
      type: 'gauge',
      help: 'The used share of the limits of everyone together, with reservations: the largest of each window.',
      samples: [...ratios(quotas, limits, now)].map(([window, value]) => ({
        labels: { window },
        value,
      })),
    },
    {
      name: 'weir_users_active',
      type: 'gauge',
      help: 'Users with an answer today.',
      samples: [{ value: day.total.users }],
    },
  ]
  return metrics.map(textOf).join('')
}

function ratios(quotas: Overview['quotas'], limits: ModelLimits, now: number): Map<string, number> {
  const found = new Map<string, number>()
  for (const model of [ALL_MODELS, ...Object.keys(limits.models)]) {
    for (const { window, used, limit } of linesOf(
      everyoneStanding(quotas, model, limits, now),
      now,
    )) {
      found.set(window, Math.max(found.get(window) ?? 0, partUsed(used, limit)))
    }
  }
  return found
}

const textOf = ({ name, type, help, samples }: Metric): string =>
  [
    `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`,
    ...samples.map(({ labels, value }) => `${name}${labels ? labelsOf(labels) : ''} ${value}\n`),
  ].join('')

const labelsOf = (labels: Record<string, string>): string =>
  `{${Object.entries(labels)
    .map(([name, value]) => `${name}="${escaped(value)}"`)
    .join(',')}}`

const escaped = (value: string): string =>
  value.replace(/[\\"\n]/g, (char) => (char === '\n' ? '\\n' : `\\${char}`))

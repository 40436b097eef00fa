/** `npm run bench:tables`: writes the figures of the last `npm run bench` into docs/performance.md. */
import { readFileSync, writeFileSync } from 'node:fs'
import { format, resolveConfig } from 'prettier'

const PAGE = 'docs/performance.md'
const [BEGIN, END] = ['<!-- bench:tables begin -->', '<!-- bench:tables end -->']

type Figure = {
  workload: string
  case: string
  base: string
  cpuRatio: number
  cpuUs?: number
  billedCommands?: number
  databaseCalls?: number
}

type Result = {
  date: string
  machine: string
  node: string
  command: string
  requests?: Figure[]
}

/** What the cases are called, in the order of the tables. The others are not shown. */
const NAMES: Record<string, string> = {
  bare: "Hono pass-through on Node, on Weir's transport",
  'bare-fetch': 'Hono pass-through on Node, with `fetch`',
  'node-rest': '**Weir on Node, Upstash REST**',
  'node-tcp': 'Weir on Node, Redis over TCP',
  'node-file': 'Weir on Node, files',
  portkey: '`@portkey-ai/gateway`, without metering',
  'bare-workerd': 'Hono pass-through in workerd',
  'bare-workerd-1-call': 'the same with one call to a database',
  'bare-workerd-2-calls': 'the same with two calls to a database',
  workerd: '**Weir in workerd**',
}

const COMPARED = [
  ['node-rest', 'bare-fetch', 'Weir on Node ÷ the pass-through with `fetch`'],
  ['node-rest', 'portkey', 'Weir on Node ÷ portkey'],
  ['workerd', 'bare-workerd-1-call', 'Weir in workerd ÷ the pass-through with one database call'],
  ['workerd', 'bare-workerd-2-calls', 'Weir in workerd ÷ the pass-through with two database calls'],
  ['node-jwt', 'node-signed', 'a JWT that was seen before ÷ any token'],
  ['node-jwt-first-use', 'node-signed', 'a JWT that is new ÷ any token'],
] as const

const result = JSON.parse(readFileSync(new URL('result.json', import.meta.url), 'utf8')) as Result
const { requests: figures = [], date, machine, node, command } = result
if (figures.length === 0) {
  console.error('The last run of `npm run bench` measured no requests.')
  process.exit(1)
}
const workloads = [...new Set(figures.map(({ workload }) => workload))]

const figureOf = (name: string, workload: string, base?: string): Figure | undefined =>
  figures.find(
    (one) =>
      one.case === name &&
      one.workload === workload &&
      (base === undefined ? one.cpuUs !== undefined : one.base === base),
  )

const times = (ratio: number) => `${ratio.toFixed(2)}×`

function table(first: string, rows: [string, (workload: string) => string][]): string {
  const lines = [
    [first, ...workloads],
    ['---', ...workloads.map(() => '---:')],
    ...rows.map(([name, cell]) => [name, ...workloads.map(cell)]),
  ]
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

const shown = Object.entries(NAMES).filter(([name]) => figures.some((one) => one.case === name))

const cpu = table(
  'CPU per request',
  shown.map(([name, label]) => [
    label,
    (workload) => {
      const one = figureOf(name, workload)
      if (!one) return ''
      const { base, cpuUs = 0, cpuRatio } = one
      return base === name ? `1 (${Math.round(cpuUs)} µs)` : times(cpuRatio)
    },
  ]),
)

const compared = table(
  'CPU of two',
  COMPARED.filter(([one, base]) => workloads.some((work) => figureOf(one, work, base))).map(
    ([one, base, label]) => [
      label,
      (workload) => {
        const figure = figureOf(one, workload, base)
        return figure ? times(figure.cpuRatio) : ''
      },
    ],
  ),
)

const commands = table(
  'commands (calls) per request',
  shown
    .filter(([name]) => (figureOf(name, workloads[0] ?? '')?.billedCommands ?? 0) > 1.5)
    .filter(([name]) => !name.startsWith('bare'))
    .map(([name, label]) => [
      label,
      (workload) => {
        const { billedCommands = 0, databaseCalls = 0 } = figureOf(name, workload) ?? {}
        return `${billedCommands.toFixed(2)} (${databaseCalls.toFixed(2)})`
      },
    ]),
)

const about =
  `Each ratio is the median over the rounds of one run of \`${command}\` (${date.slice(0, 10)}, ${machine}, ` +
  `Node ${node.slice(1)}); the rounds of the programs alternate.`

const page = readFileSync(PAGE, 'utf8')
const [before, rest = ''] = page.split(BEGIN)
const [, after] = rest.split(END)
if (after === undefined) throw new Error(`${PAGE} has no place for the tables`)
const text = [before, BEGIN, '', cpu, '', compared, '', commands, '', about, '', END, after].join(
  '\n',
)
const options = await resolveConfig(PAGE)
writeFileSync(PAGE, await format(text, { ...options, parser: 'markdown' }))

/** The gateways that are compared. Each is a separate process. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { startChild, type Child, type Usage, type UsageQuestion } from './child.ts'
import type { Target } from './load.ts'
import type { WeirOptions } from './weir-vars.ts'

/** `only` is the one workload that the case is measured with. */
export type Case = Target & {
  name: string
  base: string
  child: Child<UsageQuestion, Usage>
  only?: string | undefined
}

/** The addresses of everything that a gateway talks to. */
export type Surroundings = { upstream: string; rest: { url: string; token: string }; tcp: string }

const CHAT = '/openai/v1/chat/completions'
const OURS = `/api/groq${CHAT}`

const PORTKEY = {
  version: '1.15.2',
  // The ranges in its own package take versions that do not work together.
  overrides: { '@hono/node-server': '1.13.5', hono: '4.9.7' },
}

type Start = (around: Surroundings) => Promise<Omit<Case, 'name' | 'base'> | undefined>

async function start(file: string, options: object, path: string) {
  const child = await startChild<UsageQuestion, Usage>(file, options, ['--expose-gc'])
  return { child, url: child.url + path }
}

const weir = (options: WeirOptions) => start('weir.ts', options, OURS)

const bareWorkerd = (calls: number): Start => {
  return ({ upstream, rest }) =>
    start('workerd.ts', { entry: 'bench/bare-worker.ts', upstream, rest, calls }, CHAT)
}

/** The workload of the cases that are about tokens. */
export const TOKENS = 'plain, 32 in flight'

/** Cases on the gateway of the previous case, which send other tokens. */
const withTokens = (base: string, tokens: NonNullable<Target['tokens']>) => ({
  base,
  only: TOKENS,
  tokens,
})

type Plan = {
  /** What it is compared with. */
  base: string
  only?: string
} & ({ start: Start } | { tokens: NonNullable<Target['tokens']> })

const STARTS: Record<string, Plan> = {
  bare: {
    base: 'bare',
    start: ({ upstream }) => start('bare-node.ts', { upstream, isOwn: true }, CHAT),
  },
  'bare-fetch': {
    base: 'bare',
    start: ({ upstream }) => start('bare-node.ts', { upstream, isOwn: false }, CHAT),
  },
  'node-rest': {
    base: 'bare',
    start: ({ upstream, rest }) => weir({ upstream, rest }),
  },
  'node-signed': {
    base: 'bare',
    only: TOKENS,
    start: ({ upstream, rest }) => weir({ upstream, rest, signed: true }),
  },
  'node-jwt': withTokens('node-signed', 'jwt'),
  'node-jwt-first-use': withTokens('node-signed', 'new jwt'),
  'node-tcp': {
    base: 'bare',
    start: ({ upstream, tcp }) => weir({ upstream, tcp }),
  },
  'node-file': {
    base: 'bare',
    start: ({ upstream }) => weir({ upstream }),
  },
  portkey: {
    base: 'bare',
    start: async ({ upstream }) => {
      const installed = await installPortkey()
      if (installed === undefined) return undefined
      const headers = {
        'x-portkey-provider': 'groq',
        'x-portkey-custom-host': `${upstream}/openai/v1`,
      }
      const begun = await start('portkey.ts', { start: installed }, '/v1/chat/completions')
      return { ...begun, headers, rewrites: true }
    },
  },
  'bare-workerd': {
    base: 'bare-workerd',
    start: bareWorkerd(0),
  },
  'bare-workerd-1-call': { base: 'bare-workerd', start: bareWorkerd(1) },
  'bare-workerd-2-calls': { base: 'bare-workerd', start: bareWorkerd(2) },
  workerd: {
    base: 'bare-workerd',
    start: ({ upstream, rest }) =>
      start('workerd.ts', { entry: 'src/worker.ts', upstream, rest }, OURS),
  },
}

export const CASES = Object.keys(STARTS)

/** Starts the cases with these names, and their bases. */
export async function startCases(names: string[], around: Surroundings): Promise<Case[]> {
  const wanted = new Set<string>()
  const want = (name: string): void => {
    if (wanted.has(name)) return
    wanted.add(name)
    want(STARTS[name]?.base ?? name)
  }
  names.forEach(want)
  const cases: Case[] = []
  for (const [name, { base, only, ...plan }] of Object.entries(STARTS)) {
    if (!wanted.has(name)) continue
    process.stderr.write(`starting ${name}\n`)
    const begun =
      'start' in plan
        ? await plan.start(around)
        : { ...(cases.find((one) => one.name === base) as Case), ...plan }
    if (begun) cases.push({ ...begun, name, base, only })
  }
  return cases
}

/** Installs it for this run only. Returns its start file, or undefined if npm cannot get it. */
async function installPortkey(): Promise<string | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'weir-portkey-'))
  process.on('exit', () => void execFile('rm', ['-rf', folder]))
  const { version, overrides } = PORTKEY
  const dependencies = { '@portkey-ai/gateway': version }
  await writeFile(
    join(folder, 'package.json'),
    JSON.stringify({ private: true, dependencies, overrides }),
  )
  try {
    const options = ['install', '--no-audit', '--no-fund', '--ignore-scripts']
    await promisify(execFile)('npm', options, { cwd: folder, timeout: 90_000 })
  } catch {
    process.stderr.write('portkey is left out: npm could not install it\n')
    await rm(folder, { recursive: true, force: true })
    return undefined
  }
  return join(folder, 'node_modules/@portkey-ai/gateway/build/start-server.js')
}

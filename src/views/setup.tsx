/** What a gateway still needs before its first call, as a list of four steps. */
import type { Child } from 'hono/jsx'
import type { TokenKind } from '../config/tokens.ts'
import type { Environment } from '../ports.ts'
import { FirstCall } from './first-call.tsx'
import { Page } from './page.tsx'

/** What the provider said to our key. */
export type Provider =
  | { state: 'unset' | 'asking' | 'works' | 'away'; status?: undefined }
  | { state: 'refused'; status: number }

export type Setup = Environment & {
  origin: string
  kinds: TokenKind[]
  adminKey: boolean
  database: { connected: boolean | null; latencyMs: number | null; reason?: string }
  provider: Provider
  /** There was a call. */
  called: boolean
}

/** Where a variable is set. */
const PLACES: Record<Setup['platform'], (names: string) => Child> = {
  vercel: (names) => (
    <>In Vercel: Settings → Environment Variables, add {names}. Then Deployments → Redeploy.</>
  ),
  workerd: (names) => (
    <>
      With <code>npx wrangler secret put NAME</code>, for {names}. It is in force at once.
    </>
  ),
  node: (names) => (
    <>
      In the environment or in the file <code>.env.local</code>: {names}. Then start Weir again.
    </>
  ),
}

/** `done` is undefined while nobody knows. */
type Step = { title: string; done: boolean | undefined; children?: Child }

const MARKS = {
  done: ['✓', 'done'],
  open: ['○', 'missing'],
  unknown: ['…', 'not known yet'],
} as const

const Item = ({ title, done, children }: Step) => {
  const kind = done === undefined ? 'unknown' : done ? 'done' : 'open'
  const [mark, word] = MARKS[kind]
  return (
    <li class={`step ${kind}`}>
      <b>
        <span aria-hidden="true">{mark}</span> {title} <small class="soft">{word}</small>
      </b>
      {children && <div class="soft">{children}</div>}
    </li>
  )
}

const KEY = 'a random password of 16 characters or more, from your password manager'

function databaseStep({ database, storage, platform }: Setup): Step {
  const { connected, latencyMs, reason } = database
  const title = storage === 'file' ? 'Storage: files' : 'Database'
  if (storage === 'none') {
    const where =
      platform === 'vercel'
        ? 'In Vercel: Storage → Create Database → Upstash → Redis, and connect it to this project. Then Deployments → Redeploy.'
        : PLACES[platform]('KV_REST_API_URL and KV_REST_API_TOKEN of an Upstash Redis')
    return { title, done: false, children: where }
  }
  if (connected === null) return { title, done: undefined }
  if (connected) return { title, done: true, children: `It answers in ${latencyMs} ms.` }
  const children = `It does not answer${reason === undefined ? '' : `: ${reason}`}. Check its address and token.`
  return { title, done: false, children }
}

function providerStep({ provider, platform }: Setup): Step {
  const title = 'Provider key'
  if (provider.state === 'works') return { title, done: true, children: 'The provider takes it.' }
  if (provider.state === 'asking') return { title, done: undefined }
  if (provider.state === 'away')
    return { title, done: false, children: 'The provider does not answer.' }
  const set = PLACES[platform]('GROQ_API_KEY, a key from console.groq.com/keys')
  if (provider.state === 'unset') return { title, done: false, children: set }
  return {
    title,
    done: false,
    children: (
      <>
        The provider refuses it with {provider.status}. {set}
      </>
    ),
  }
}

/** The steps in the order in which they are done. */
const Checklist = (setup: Setup) => {
  const steps: Step[] = [
    {
      title: 'Admin key',
      done: setup.adminKey,
      children: setup.adminKey
        ? undefined
        : PLACES[setup.platform](
            `ADMIN_KEY, ${KEY}; and USER_HASH_SECRET, another one that you keep`,
          ),
    },
    databaseStep(setup),
    providerStep(setup),
    {
      title: 'First call',
      done: setup.called,
      children: setup.called ? undefined : <FirstCall origin={setup.origin} kinds={setup.kinds} />,
    },
  ]
  return (
    <ol class="steps">
      {steps.map((step) => (
        <Item {...step} />
      ))}
    </ol>
  )
}

/** A page of its own. */
export const setupPage = (setup: Setup) => (
  <Page title="Set up">
    <section class="card">
      <h1>Set up this gateway</h1>
      <Checklist {...setup} />
      <p class="soft">
        Load this page again after a change. <code>docs/configuration.md</code> lists every
        variable.
      </p>
    </section>
  </Page>
)

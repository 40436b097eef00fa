/** What a gateway still needs before its first call, as a list of steps. */
import type { Child } from 'hono/jsx'
import { TOKEN_KINDS, type TokenKind } from '../config/tokens.ts'
import type { Environment } from '../ports.ts'
import { FirstCall, isAny } from './first-call.tsx'
import { Page } from './page.tsx'

/** What the provider said to our key. */
export type Provider =
  | { state: 'unset' | 'asking' | 'works' | 'away'; status?: undefined }
  | { state: 'refused'; status: number }

export type Setup = Environment & {
  origin: string
  kinds: TokenKind[]
  adminKey: boolean
  hashSecret: boolean
  database: { connected: boolean | null; latencyMs: number | null; reason?: string }
  provider: Provider
  /** There was a call. */
  called: boolean
}

/** Where variables are set, after "Set …". */
function placeOn(platform: Setup['platform']): Child {
  switch (platform) {
    case 'vercel':
      return (
        <>in Vercel, under Settings → Environment Variables. Then choose Deployments → Redeploy.</>
      )
    case 'workerd':
      return (
        <>
          with <code>npx wrangler secret put NAME</code>. It is in force at once.
        </>
      )
    case 'node':
      return (
        <>
          in the environment or in the file <code>.env.local</code>. Then start Weir again.
        </>
      )
  }
}

/** What to set, and where. */
const set = (platform: Setup['platform'], what: Child) => (
  <>
    Set {what}, {placeOn(platform)}
  </>
)

/** `done` is undefined while nobody knows. */
type Step = { title: string; done: boolean | undefined; children?: Child }

const MARKS = {
  done: ['✓', 'done'],
  open: ['○', 'to do'],
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

function databaseStep({ database, storage, platform }: Setup): Step {
  const { connected, latencyMs, reason } = database
  const title = storage === 'file' ? 'Storage: files' : 'Database'
  if (storage === 'none') {
    const where =
      platform === 'vercel'
        ? 'In Vercel, choose Storage → Create Database → Upstash → Redis, and connect it to this project. Then choose Deployments → Redeploy.'
        : set(
            platform,
            <>
              <code>KV_REST_API_URL</code> and <code>KV_REST_API_TOKEN</code> to those of an{' '}
              <a href="https://console.upstash.com">Upstash Redis</a>
            </>,
          )
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
  const key = set(
    platform,
    <>
      <code>GROQ_API_KEY</code> to a key from{' '}
      <a href="https://console.groq.com/keys">console.groq.com/keys</a>
    </>,
  )
  if (provider.state === 'unset') return { title, done: false, children: key }
  return {
    title,
    done: false,
    children: (
      <>
        The provider refuses it with {provider.status}. {key}
      </>
    ),
  }
}

/** The steps in the order in which they are done. */
const Checklist = (setup: Setup) => {
  // An earlier call says nothing of the key that is set now.
  const isCalled = setup.called && setup.provider.state === 'works'
  const steps: Step[] = [
    {
      title: 'Admin key',
      done: setup.adminKey,
      children: setup.adminKey
        ? undefined
        : set(
            setup.platform,
            <>
              <code>ADMIN_KEY</code> to a random password of 16 characters or more from your
              password manager
            </>,
          ),
    },
    {
      title: 'Secret of user ids',
      done: setup.hashSecret,
      children: !setup.hashSecret && (
        <>
          {set(
            setup.platform,
            <>
              <code>USER_HASH_SECRET</code> to another random password
            </>,
          )}{' '}
          Never change it: with another secret, each user is a new user.
        </>
      ),
    },
    databaseStep(setup),
    providerStep(setup),
    {
      title: 'First call',
      done: isCalled,
      children: isCalled ? undefined : (
        <>
          {!isAny(setup.kinds) && (
            <p>
              Replace TOKEN by a user token. This gateway takes{' '}
              {setup.kinds.map((kind) => TOKEN_KINDS[kind]).join(', or ')}.
            </p>
          )}
          <FirstCall origin={setup.origin} kinds={setup.kinds} />
        </>
      ),
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

/** What somebody sees who is not logged in, or cannot be. */
import type { Child } from 'hono/jsx'
import { Page } from './page.tsx'
import { num } from './parts.tsx'

/** A page that says one thing: what is so, and what to do. */
const message = (title: string, children: Child) => (
  <Page title={title}>
    <section class="card">
      <h1>{title}</h1>
      {children}
    </section>
  </Page>
)

/** The login page, and why the last try failed. */
export const loginPage = ({ error }: { error?: string | undefined } = {}) =>
  message(
    'Log in',
    <form method="post" action="/api/admin/login">
      <input name="user" value="admin" autocomplete="username" hidden />
      <label for="key">Admin key</label>
      <input
        id="key"
        name="key"
        type="password"
        required
        autofocus
        autocomplete="current-password"
        aria-describedby="hint"
        aria-invalid={error && 'true'}
      />
      <p id="hint" class={error ? 'error' : 'soft'} role={error && 'alert'}>
        {error ?? 'It is ADMIN_KEY in the environment of this gateway.'}
      </p>
      <button>Log in</button>
    </form>,
  )

/** Nobody can log in: there is no key. */
export const setupPage = () =>
  message(
    'No admin key is set',
    <>
      <p>
        Set ADMIN_KEY to 16 characters or more in the environment of this gateway, and start it
        again. Calls are served as usual.
      </p>
      <pre>ADMIN_KEY=$(openssl rand -base64 24)</pre>
    </>,
  )

/** The database does not answer, so nothing can be shown and nobody be let in; `open` is whether calls are served. */
export const awayPage = ({ open, queued }: { open: boolean; queued: number }) =>
  message(
    'The database does not answer',
    <>
      <p>
        {open
          ? 'Calls are served meanwhile, under the limits and blocks that are remembered here, and counted when it is back.'
          : 'Calls are refused with 503 until it is back (ON_STORE_DOWN=closed).'}
      </p>
      <p>
        Events that wait here to be counted: <b>{num(queued)}</b>
      </p>
      <a href="/admin">Try again</a>
    </>,
  )

/** Any other page that cannot be shown. */
export const problemPage = (title: string, why: string) =>
  message(
    title,
    <>
      <p>{why}</p>
      <a href="/admin">To the dashboard</a>
    </>,
  )

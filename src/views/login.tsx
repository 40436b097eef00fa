/** The pages for visitors who are not logged in or cannot log in. */
import type { Child } from 'hono/jsx'
import { awayText } from './format.ts'
import { Page, sectionOf, type Frame } from './page.tsx'
import { num } from './parts.tsx'

/** A page with one message. */
const message = (title: string, children: Child, frame: Partial<Frame> = {}) => (
  <Page title={title} {...frame}>
    <section class="card">
      <h1>{title}</h1>
      {children}
    </section>
  </Page>
)

/** The login page. `error` is why the last attempt failed. */
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
        aria-describedby={error ? 'problem hint' : 'hint'}
        aria-invalid={error && 'true'}
      />
      {error && (
        <p id="problem" class="error" role="alert">
          {error}
        </p>
      )}
      <p id="hint" class="soft">
        The key is <code>ADMIN_KEY</code>, or one of <code>ADMIN_KEYS</code>, in the environment of
        this gateway.
      </p>
      <button>Log in</button>
    </form>,
  )

/** Shown if the database does not answer. `open`: whether calls are still served. */
export const awayPage = (props: { open: boolean; queued: number; path: string; reason?: string }) =>
  message(
    'The database does not answer',
    <>
      {props.reason !== undefined && <p>{awayText(props.reason)}</p>}
      <p>
        {props.open
          ? 'Calls are still served, under the limits and blocks that this instance remembers. These calls are counted when the database is back.'
          : 'Calls are refused with 503 until the database is back (ON_STORE_DOWN=closed).'}
      </p>
      <p>
        Requests that are not counted yet: <b>{num(props.queued)}</b>
      </p>
      <a href={props.path}>Try again</a>
    </>,
  )

/** Shown instead of any other page that fails. `frame` is that of the page, for admins who are logged in. */
export function problemPage(title: string, why: string, frame?: Frame) {
  const [path, name] = sectionOf(frame?.path ?? '') ?? ['/admin', 'Overview']
  return message(
    title,
    <>
      <p>{why}</p>
      <a href={path}>Back to {name}</a>
    </>,
    frame && { ...frame, still: true },
  )
}

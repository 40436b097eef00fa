/** What somebody sees who is not logged in, or cannot be. */
import { Message, Page } from './page.tsx'
import { Num } from './parts.tsx'

/** The login page, and why the last try failed. */
export const loginPage = ({ error }: { error?: string | undefined } = {}) => (
  <Page title="Log in" narrow>
    <section class="card">
      <h1>Log in</h1>
      <form method="post" action="/api/admin/login">
        <label for="key">Admin key</label>
        <input
          id="key"
          name="key"
          type="password"
          required
          autofocus
          autocomplete="current-password"
          aria-describedby={error === undefined ? 'hint' : 'error hint'}
          aria-invalid={error === undefined ? undefined : 'true'}
        />
        {error !== undefined && (
          <p id="error" class="error" role="alert">
            {error}
          </p>
        )}
        <p id="hint" class="soft">
          The value of <code>ADMIN_KEY</code> where this gateway runs.
        </p>
        <button>Log in</button>
      </form>
    </section>
  </Page>
)

/** Nobody can log in: there is no key. */
export const setupPage = () => (
  <Message title="No admin key is set">
    <p>
      Set <code>ADMIN_KEY</code> in the environment of this gateway to 16 characters or more, and
      start it again. Until then nobody can log in; calls are served as usual.
    </p>
    <pre tabindex={0}>
      <code>ADMIN_KEY=$(openssl rand -base64 24)</code>
    </pre>
  </Message>
)

export type Away = {
  /** Whether calls are served meanwhile. */
  open: boolean
  /** Events that wait for the database. */
  queued: number
}

/** The database does not answer, so nothing can be shown and nobody be let in. */
export const awayPage = ({ open, queued }: Away) => (
  <Message title="The database does not answer">
    <p>
      {open
        ? 'Calls are served meanwhile, under the limits and blocks that are remembered, and counted when it is back.'
        : 'Calls are refused with 503 until it is back, as ON_STORE_DOWN=closed says.'}
    </p>
    <p>
      <strong>
        <Num of={queued} />
      </strong>{' '}
      {queued === 1 ? 'event waits' : 'events wait'} here to be counted.
    </p>
    <p>
      <a class="button" href="/admin">
        Try again
      </a>{' '}
      <a href="/api/test">Database check</a>
    </p>
  </Message>
)

/** Any other page that cannot be shown. */
export const problemPage = ({ title, message }: { title: string; message: string }) => (
  <Message title={title}>
    <p>{message}</p>
    <p>
      <a class="button" href="/admin">
        To the dashboard
      </a>
    </p>
  </Message>
)

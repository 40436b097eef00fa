/** The page at `/`: what this is, and a first call that works. */
import { Page } from './page.tsx'

/** A call that works at once. */
export const FirstCall = ({ origin }: { origin: string }) => (
  <pre tabindex={0} aria-label="A first call">
    <code>
      {`curl ${origin}/api/groq \\\n  -H 'x-user-token: my-first-user' \\\n  -d '{"prompt":"Hello"}'`}
    </code>
  </pre>
)

export const homePage = ({ origin }: { origin: string }) => (
  <Page title="LLM gateway" narrow>
    <h1>A gateway that measures and holds back</h1>
    <p class="lead">
      Weir stands between your users and a model: it keeps the provider key, counts what everyone
      uses, holds each of them under a hard cap, and passes every byte through untouched.
    </p>
    <h2>A first call</h2>
    <FirstCall origin={origin} />
    <p class="soft">Any token of 8 characters or more is a user. A new one starts a new count.</p>
    <h2>With an SDK</h2>
    <dl class="pairs">
      <dt>openai, AI SDK</dt>
      <dd>
        <code>{`${origin}/api/groq/openai/v1`}</code>
      </dd>
      <dt>groq-sdk</dt>
      <dd>
        <code>{`${origin}/api/groq`}</code>
      </dd>
    </dl>
    <p class="soft">Use one as the base URL, and the user's token as the API key.</p>
    <h2>More</h2>
    <ul class="links">
      <li>
        <a href="/admin">Dashboard</a> who uses how much, now and over 90 days
      </li>
      <li>
        <a href="/api/test">Database check</a> whether counts can be kept
      </li>
      <li>
        <a href="/tracker.js">tracker.js</a> tells a browser what its user has left
      </li>
    </ul>
    <p class="soft">README.md has limits, prices, blocking, storage and deployment.</p>
  </Page>
)

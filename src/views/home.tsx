/** The page at `/`: what this is, and a first call that works. */
import { Page } from './page.tsx'

/** A call that works at once. */
export const FirstCall = ({ origin }: { origin: string }) => (
  <pre>
    {`curl ${origin}/api/groq \\\n  -H 'x-user-token: my-first-user' \\\n  -d '{"prompt":"Hello"}'`}
  </pre>
)

export const homePage = ({ origin }: { origin: string }) => (
  <Page title="LLM gateway">
    <h1>A gateway that measures and holds back</h1>
    <p>
      Weir stands between your users and a model. It keeps the provider key, counts what each of
      them uses, holds them under a hard cap, and passes every byte through untouched.
    </p>
    <h2>A first call</h2>
    <FirstCall origin={origin} />
    <p class="soft">A token of 8 characters or more is a user; a new one starts a new count.</p>
    <h2>With an SDK</h2>
    <pre>{`baseURL  ${origin}/api/groq/openai/v1\napiKey   the user's token`}</pre>
    <p class="soft">
      The groq-sdk package adds the rest of the path itself: it takes {origin}/api/groq.
    </p>
    <h2>More</h2>
    <ul>
      <li>
        <a href="/admin">Dashboard</a>: who uses how much, now and over 90 days
      </li>
      <li>
        <a href="/api/test">Database check</a>: whether counts can be kept
      </li>
      <li>
        <a href="/tracker.js">tracker.js</a>: tells a browser what its user has left
      </li>
      <li>README.md: limits, prices, blocks, storage, deployment</li>
    </ul>
  </Page>
)

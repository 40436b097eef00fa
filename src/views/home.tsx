/** The page at `/`: what Weir is, and a first call. */
import { Page } from './page.tsx'

/** A call that works without further setup. */
export const FirstCall = ({ origin }: { origin: string }) => (
  <pre>
    {`curl ${origin}/api/groq \\\n  -H 'x-user-token: my-first-user' \\\n  -d '{"prompt":"Hello"}'`}
  </pre>
)

export const homePage = ({ origin }: { origin: string }) => (
  <Page title="LLM gateway">
    <h1>An LLM gateway with a cap for every user</h1>
    <p>
      Weir stands between your users and a model. It keeps the provider key, counts the usage of
      each user, enforces a hard cap, and does not change a byte of the answers.
    </p>
    <h2>A first call</h2>
    <FirstCall origin={origin} />
    <p class="soft">Any token of 8 characters or more is a user. A new token is a new user.</p>
    <h2>With an SDK</h2>
    <pre>{`baseURL  ${origin}/api/groq/openai/v1\napiKey   the user's token`}</pre>
    <p class="soft">
      For the groq-sdk package use {origin}/api/groq: it adds the rest of the path.
    </p>
    <h2>More</h2>
    <ul>
      <li>
        <a href="/admin">Dashboard</a>: who uses how much, now and over 90 days
      </li>
      <li>
        <a href="/api/test">Database check</a>: whether counts can be stored
      </li>
      <li>
        <a href="/tracker.js">tracker.js</a>: shows users in a browser what they have left
      </li>
      <li>README.md explains limits, prices, blocks, storage and deployment</li>
    </ul>
  </Page>
)

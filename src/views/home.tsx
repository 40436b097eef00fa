/** The page at `/`: what Weir is, and a first call. */
import { TOKEN_KINDS, type TokenKind } from '../config/tokens.ts'
import { Page } from './page.tsx'

type Gateway = { origin: string; kinds: TokenKind[] }

/** A call that works without further setup, if any token is taken. */
export const FirstCall = ({ origin, kinds }: Gateway) => {
  const token = kinds.includes('any') ? 'my-first-user' : 'TOKEN'
  return (
    <pre>
      {`curl ${origin}/api/groq \\\n  -H 'x-user-token: ${token}' \\\n  -d '{"prompt":"Hello"}'`}
    </pre>
  )
}

export const homePage = ({ origin, kinds }: Gateway) => (
  <Page title="LLM gateway">
    <h1>An LLM gateway with a cap for every user</h1>
    <p>
      Weir stands between your users and a model. It keeps the provider key, counts the usage of
      each user, enforces a hard cap, and does not change a byte of the answers.
    </p>
    <h2>A first call</h2>
    <FirstCall origin={origin} kinds={kinds} />
    <p class="soft">
      {kinds.includes('any')
        ? 'Any token of 8 characters or more is a user. A new token is a new user.'
        : `TOKEN stands for a user token: ${kinds.map((kind) => TOKEN_KINDS[kind]).join(', or ')}.`}
    </p>
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

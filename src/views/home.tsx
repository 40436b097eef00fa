/** The page at `/`: what this is, a first call, and where to go on. */
import { TOKEN_KINDS } from '../config/tokens.ts'
import { firstCall, isAny, type Gateway } from './first-call.tsx'
import { Page } from './page.tsx'

type Home = Gateway & {
  version: string
  /** There is a chat page at /demo. */
  demo: boolean
  helpUrl: string | undefined
}

/** The same call by each kind of client. */
const examples = ({ origin, kinds }: Gateway): [string, string][] => {
  const token = isAny(kinds) ? 'my-first-user' : 'TOKEN'
  const base = `${origin}/api/groq/openai/v1`
  return [
    ['curl', firstCall({ origin, kinds })],
    [
      'JavaScript',
      `import OpenAI from 'openai'

const openai = new OpenAI({ baseURL: '${base}', apiKey: '${token}' })
const answer = await openai.chat.completions.create({
  model: 'openai/gpt-oss-20b',
  messages: [{ role: 'user', content: 'Hello' }],
})
console.log(answer.choices[0].message.content)`,
    ],
    [
      'Python',
      `from openai import OpenAI

client = OpenAI(base_url="${base}", api_key="${token}")
answer = client.chat.completions.create(
    model="openai/gpt-oss-20b", messages=[{"role": "user", "content": "Hello"}]
)
print(answer.choices[0].message.content)`,
    ],
  ]
}

export const homePage = (home: Home) => {
  const { origin, kinds, version, demo, helpUrl } = home
  return (
    <Page title="LLM gateway" copies>
      <h1>An LLM gateway with a cap for every user</h1>
      <p>
        Applications call a model through this address. Each of their users has a limit. Answers are
        those of the model, byte for byte.
      </p>
      <h2>A first call</h2>
      {examples(home).map(([name, code], index) => (
        <details open={index === 0}>
          <summary>{name}</summary>
          <pre>{code}</pre>
        </details>
      ))}
      <p class="soft">
        {isAny(kinds)
          ? 'The API key is a user token: any text of 8 to 512 printable ASCII characters is a user, and a new one is a new user.'
          : `API keys are user tokens: ${kinds.map((kind) => TOKEN_KINDS[kind]).join(', or ')}.`}{' '}
        For the package groq-sdk the base URL is {origin}/api/groq.
      </p>
      <h2>Go on</h2>
      <ul>
        {demo && (
          <li>
            <a href="/demo">Demo</a>: a chat that shows what its user has left
          </li>
        )}
        <li>
          <a href="/reference.html">Reference of the API</a>, and its{' '}
          <a href="/api/openapi.json">OpenAPI document</a>
        </li>
        <li>
          <a href="/tracker.js">tracker.js</a>: shows users in a browser what they have left
        </li>
        <li>
          <a href="/admin">Dashboard</a>, for admins
        </li>
        {helpUrl && (
          <li>
            <a href={helpUrl}>Help</a>
          </li>
        )}
      </ul>
      <p class="soft">Weir {version}</p>
    </Page>
  )
}

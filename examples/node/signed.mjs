/** Signs a token for a user of your application (HS256), and calls with it. The gateway needs USER_TOKENS=signed. */
import { createHmac } from 'node:crypto'

const base = process.env.WEIR_URL ?? 'http://127.0.0.1:8787'
const secret = process.env.USER_TOKEN_SECRETS
if (!secret) throw new Error('Set USER_TOKEN_SECRETS as for the gateway.')

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A token of a user, for 15 minutes. */
function tokenFor(user, claims = {}) {
  const exp = Math.floor(Date.now() / 1000) + 15 * 60
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: user, exp, ...claims })}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}

const answer = await fetch(`${base}/api/groq`, {
  method: 'POST',
  headers: { authorization: `Bearer ${tokenFor('user-7', { label: 'Ann' })}` },
  body: JSON.stringify({ prompt: 'Hello' }),
})
const { content, usage, error } = await answer.json()
if (error) throw new Error(error.message)
console.log(content, usage)

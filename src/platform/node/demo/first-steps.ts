/** The lines in which a trial gateway says what to do first. */
import { secretsPath } from './kept-secrets.ts'
import type { Trial } from './trial.ts'

/** Pages and commands for a first look. `origin` is where the gateway listens. */
export function firstSteps({ config, adminKey, isDemoModel }: Trial, origin: string): string[] {
  const lines = isDemoModel
    ? ['Provider: the built-in demo model, because GROQ_API_KEY is not set.']
    : []
  if (adminKey !== undefined) {
    lines.push(`Admin key, made up and kept in ${secretsPath(config.usageFile)}: ${adminKey}`)
  }
  return [
    ...lines,
    `Dashboard: ${origin}/admin (log in with the admin key)`,
    `Demo page: ${origin}/demo`,
    'Try it:',
    ...firstCalls(config, origin, `-H 'Authorization: Bearer ${adminKey ?? '$ADMIN_KEY'}'`),
  ]
}

/** A call by a user, or how to get a key or a signed token if no token can be made up. */
function firstCalls(
  { userTokens }: Pick<Trial['config'], 'userTokens'>,
  origin: string,
  asAdmin: string,
): string[] {
  const kind = ['any', 'issued', 'signed'].find((one) => userTokens.some((taken) => taken === one))
  const byKind: Record<string, string> = {
    any: `${origin}/api/groq -H 'x-user-token: my-first-user' -d '{"prompt":"Hello"}'`,
    issued: `${origin}/api/admin/keys ${asAdmin} -d '{"user":"my-first-user"}'`,
    signed: `${origin}/api/admin/tokens ${asAdmin} -d '{"user":"my-first-user","expires_in":3600}'`,
  }
  const first = kind === undefined ? [] : [`  curl ${byKind[kind]}`]
  return [...first, `  curl ${origin}/api/admin/usage ${asAdmin}`]
}

/**
 * What a gateway has and what it still needs before its first call. Pages show it to visitors only while something that
 * every call needs is missing, and to admins. The provider is asked at most every 30 s.
 */
import type { Context } from 'hono'
import type { Deps } from '../context.ts'
import type { Provider, Setup } from '../views/setup.tsx'
import { rememberedCheck } from './database-check.ts'

const REMEMBER_MS = { good: 30_000, bad: 5000 }
const PROVIDER_MS = 3000

/** Whether calls cannot be served as the gateway is configured. */
export const isUnconfigured = ({ config, store }: Pick<Deps, 'config' | 'store'>): boolean =>
  !store || config.groqKey === undefined

/** Builds the function that checks everything. */
export function createSetupLook(deps: Deps): (c: Context) => Promise<Setup> {
  const { config, environment } = deps
  const database = rememberedCheck(deps)
  const asked = rememberedAnswers(deps)

  return async (c) => {
    const [checked, { provider, called }] = await Promise.all([database(), asked()])
    return {
      platform: environment.platform,
      storage: environment.storage,
      origin: new URL(c.req.url).origin + config.basePath,
      kinds: config.userTokens,
      adminKey: config.admins.length > 0,
      hashSecret: config.userHashSecret !== undefined,
      database: checked.database,
      provider,
      called,
    }
  }
}

type Checked = { provider: Provider; called: boolean }

/** Asks the provider for its models with our key, and the database for a call, and remembers what they say. */
function rememberedAnswers({ config, store, fetch, now }: Deps): () => Promise<Checked> {
  let known: (Checked & { at: number }) | undefined

  async function hasCalls(): Promise<boolean> {
    const events = await store?.events(1).catch(() => undefined)
    return Boolean(events?.length)
  }

  return async () => {
    const { groqUrl, groqKey } = config
    const first: Provider = groqKey === undefined ? { state: 'unset' } : { state: 'asking' }
    const wait = known?.provider.state === 'works' ? REMEMBER_MS.good : REMEMBER_MS.bad
    if (!known || now() - known.at >= wait) {
      // Callers who ask in the meantime get the previous answers.
      known = { provider: known?.provider ?? first, called: known?.called ?? false, at: now() }
      const [provider, called] = await Promise.all([
        groqKey === undefined ? first : ask(groqUrl, groqKey, fetch),
        hasCalls(),
      ])
      known = { provider, called, at: now() }
    }
    return known
  }
}

async function ask(address: string, key: string, fetch: Deps['fetch']): Promise<Provider> {
  try {
    const { ok, status, body } = await fetch(`${address}/openai/v1/models`, {
      method: 'GET',
      headers: { authorization: `Bearer ${key}`, accept: 'application/json' },
      body: null,
      signal: AbortSignal.timeout(PROVIDER_MS),
      redirect: 'manual',
    })
    await body?.cancel()
    return ok ? { state: 'works' } : { state: 'refused', status }
  } catch {
    return { state: 'away' }
  }
}

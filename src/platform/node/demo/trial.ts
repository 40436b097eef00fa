/** The configuration of a trial gateway: with secrets that are made up, and a demo model if there is no provider. */
import { readConfig, type Config, type Platform, type Vars } from '../../../config/config.ts'
import { USAGE_FILE } from '../../../config/variables.ts'
import { keptSecrets } from './kept-secrets.ts'

export type Trial = {
  config: Readonly<Config>
  /** The variables that the configuration comes from. */
  vars: Vars
  /** The key of the admin, if it was made up. */
  adminKey: string | undefined
  /** There is no provider key, so the demo model answers. */
  isDemoModel: boolean
}

/** Reads the environment and completes it. Throws `ConfigError`. */
export async function readTrial(env: Vars, platform: Platform): Promise<Trial> {
  const usageFile = env.USAGE_FILE?.trim() || USAGE_FILE
  const { ADMIN_KEY: adminKey, ...more } = await keptSecrets(env, platform, usageFile)
  const isDemoModel = !env.GROQ_API_KEY?.trim()
  const vars: Vars = {
    ...env,
    ...more,
    ...(adminKey && { ADMIN_KEY: adminKey }),
    ...(isDemoModel && { GROQ_API_KEY: 'demo' }),
  }
  return { config: readConfig(vars, platform), vars, adminKey, isDemoModel }
}

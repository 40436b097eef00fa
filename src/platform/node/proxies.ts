/** The HTTP proxies that the environment names for outgoing calls, as curl reads them. */
import { ConfigError } from '../../config/config.ts'

type Env = Record<string, string | undefined>

/** Undefined where calls go directly. */
type Proxies = {
  http: string | undefined
  https: string | undefined
  /** Hosts that are called directly, separated by commas. */
  except: string | undefined
}

/** Reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, also in lower case. Throws `ConfigError`. */
export function proxiesOf(env: Env): Proxies {
  const problems: string[] = []
  const text = (name: string) => env[name.toLowerCase()]?.trim() || env[name]?.trim() || undefined

  function proxy(name: string): string | undefined {
    const given = text(name)
    if (given === undefined) return undefined
    const address = given.includes('://') ? given : `http://${given}`
    if (URL.canParse(address) && /^https?:$/.test(new URL(address).protocol)) return address
    problems.push(
      `${name} must be an http(s) address of a proxy, such as http://proxy.example:3128.`,
    )
    return undefined
  }

  const all = proxy('ALL_PROXY')
  const proxies = {
    http: proxy('HTTP_PROXY') ?? all,
    https: proxy('HTTPS_PROXY') ?? all,
    except: text('NO_PROXY'),
  }
  if (problems.length) throw new ConfigError(problems)
  return proxies
}

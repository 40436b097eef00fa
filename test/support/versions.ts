/** The content of a database or of files that other versions of Weir have used. */
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { beforeEach } from 'vitest'
import { openLocal } from '../../src/store/local/store.ts'
import { NOON } from './commands.ts'
import { useStores } from './contract.ts'
import { RETENTION, redisStore, type Warning } from './stores.ts'

export type Json = Record<string, unknown>

const FIXTURES = new URL('fixtures/', import.meta.url)

/** The stored data of a version: `v2/redis.txt` has one command per line, the others are files. */
export const fixture = (name: string) => readFile(new URL(name, FIXTURES), 'utf8')

/** A database, files, the stores on them, and all warnings of these in a test. */
export function useFixtures() {
  const { redis, upstash, until } = useStores()
  const warnings: Warning[] = []
  beforeEach(() => {
    warnings.length = 0
  })
  const warn = (event: string, fields: Record<string, unknown>) =>
    void warnings.push({ event, fields })

  return {
    redis,
    upstash,
    warnings,
    /** A store on the database, by default with the script of this build. */
    remote: (script?: string) =>
      redisStore(upstash, script === undefined ? { warnings } : { warnings, script }),
    /** Fills the database with the data of a version. */
    async restore(version: string): Promise<void> {
      for (const line of (await fixture(`${version}/redis.txt`)).trim().split('\n')) {
        const [, command = '', key = '', rest = ''] = /^(\w+) (\S+) (.*)$/.exec(line) ?? []
        const [, score = '', member = ''] = /^(\S+) (.*)$/.exec(rest) ?? []
        const values = command === 'ZADD' ? [score, member] : [rest]
        await redis.command([command, key, ...values])
      }
    },
    /** Files with these texts, and a function that opens a store on them. */
    async filesOf(texts: { snapshot?: string; journal?: string }) {
      const file = join(await mkdtemp(join(tmpdir(), 'weir-')), 'logs', 'token_usage.json')
      await mkdir(dirname(file))
      if (texts.snapshot !== undefined) await writeFile(file, texts.snapshot)
      if (texts.journal !== undefined) await writeFile(`${file}.journal`, texts.journal)
      const options = { file, retention: RETENTION, now: () => NOON, tolerance: Infinity, warn }
      const store = async () => {
        const local = await openLocal(options)
        return until({ ...local, remove: () => local.close() })
      }
      return { file, store }
    },
    /** A document in the database. */
    document: async (key: string) => JSON.parse(String(await redis.command(['GET', key]))) as Json,
    /** Everything in the database, as text. */
    async dump(): Promise<Map<string, string>> {
      const keys = ((await redis.command(['KEYS', '*'])) as string[]).sort()
      const texts = await Promise.all(
        keys.map(async (key) => {
          const type = await redis.command(['TYPE', key])
          if (type === 'string') return String(await redis.command(['GET', key]))
          const range =
            type === 'list' ? ['LRANGE', key, 0, -1] : ['ZRANGE', key, 0, -1, 'WITHSCORES']
          return JSON.stringify(await redis.command(range))
        }),
      )
      return new Map(keys.map((key, n) => [key, texts[n] ?? '']))
    },
  }
}

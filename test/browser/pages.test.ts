/** The pages as they are sent: their size, and that they comply with the content security policy. */
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { ASSETS } from '../../src/views/assets.ts'
import { logIn, SAME_ORIGIN } from '../support/admin.ts'
import { admitOf, settleOf } from '../support/commands.ts'
import { KINDS } from '../support/gateways.ts'
import { seededId, seedUsers } from '../support/seed.ts'
import { useWorld } from '../support/world.ts'

const KB = 1024
const MODELS = ['openai/gpt-oss-20b', 'llama-3.3-70b-versatile', 'moonshotai/kimi-k2-instruct-0905']

const world = useWorld()

test.each([
  ['script', 6],
  ['style', 10],
  ['usage', 3],
  ['usageStyle', 1],
] as const)('the %s has at most %i KB gzip', (name, most) => {
  expect(gzipSync(ASSETS[name].text).length).toBeLessThanOrEqual(most * KB)
})

describe.each(KINDS)('on %s', (kind) => {
  test('no page has inline scripts or styles, and the longest has at most 30 KB gzip', async () => {
    const now = Date.now()
    await seedUsers(world.redis, 120, now)
    for (let n = 0; n < 60; n += 1) {
      const admit = admitOf({
        id: seededId(1000 + n),
        user: seededId(n),
        model: MODELS[n % MODELS.length],
        now: now - n * 1000,
      })
      await world.store.execute(admit)
      await world.store.execute(settleOf(admit, { outcome: n % 9 ? 'exact' : 'failed' }))
    }
    const user = seededId(3)
    const block = { at: now, reason: 'Too many questions' }
    await world.store.execute({ op: 'block', user, model: '*', now, block })

    const gateway = await world.gateway(kind)
    const session = await logIn(gateway)
    const next = async () =>
      /href="([^"]*)" rel="next"/
        .exec(await html(`${gateway.url}/admin/users`, 200))?.[1]
        ?.replaceAll('&amp;', '&') ?? ''
    async function html(url: string, status: number, init?: RequestInit): Promise<string> {
      const headers = { ...session, ...SAME_ORIGIN }
      const response = await fetch(url, { headers, ...init })
      expect([url, response.status]).toEqual([url, status])
      return response.text()
    }
    const headers = {
      ...{ ...session, ...SAME_ORIGIN },
      'content-type': 'application/x-www-form-urlencoded',
    }
    const wrong = { method: 'POST', body: new URLSearchParams({ key: 'a-wrong-key' }) }
    const cut = await world.gateway(kind, { STORE_TIMEOUT_MS: '100' })
    const unset = await world.gateway(kind, { ADMIN_KEY: '' })
    const pages = [
      await html(`${gateway.url}/`, 200),
      await html(`${gateway.url}/admin`, 401, { headers: {} }),
      await html(`${gateway.url}/api/admin/login`, 401, { ...wrong, headers: SAME_ORIGIN }),
      await html(`${unset.url}/admin`, 503),
      await html(`${gateway.url}/admin`, 200),
      await html(`${gateway.url}/admin?range=90d`, 200),
      await html(`${gateway.url}/admin/users?sort=tokens`, 200),
      await html(gateway.url + (await next()), 200),
      await html(`${gateway.url}/admin/find`, 200, { method: 'POST', headers, body: 'q=nobody' }),
      await html(`${gateway.url}/admin/requests`, 200),
      await html(`${gateway.url}/admin/requests?outcome=refused`, 200),
      await html(`${gateway.url}/admin/audit`, 200),
      await html(`${gateway.url}/admin/users/${user}`, 200),
      await html(`${gateway.url}/admin/users/${seededId(4)}`, 200),
      await html(`${gateway.url}/admin/users/${seededId(4000)}`, 404),
      await html(`${gateway.url}/admin/nothing`, 404),
      await html(`${gateway.url}/admin/plans`, 200),
      await html(`${gateway.url}/admin/settings`, 200),
    ]
    world.upstash.fault(() => ({ hang: true }))
    pages.push(await html(`${cut.url}/admin`, 503), await html(`${gateway.url}/usage`, 200))

    for (const page of pages) {
      expect(page).toMatch(/^<!doctype html><html lang="en">/)
      expect(page).not.toMatch(
        /<style| style=| on\w+=|javascript:|<script(?! type="module" src="\/(assets\/[\w-]{43}\/(admin|usage)|copy)\.js">)/,
      )
    }
    const sizes = pages.map((page) => gzipSync(page).length)
    expect(Math.max(...sizes)).toBeLessThanOrEqual(30 * KB)
    // The page of users has fifty.
    expect(pages[6]?.match(/<tr data-key/g)).toHaveLength(50)
  })
})

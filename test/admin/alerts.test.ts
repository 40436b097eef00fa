/** The page of alerts: what it lists, its form, and what viewers see. */
import { afterEach, expect, test } from 'vitest'
import { SAME_ORIGIN } from '../support/admin.ts'
import { ADMIN_KEY } from '../support/gateways.ts'
import { localApp, type LocalApp } from '../support/local-app.ts'

const VIEWER_KEY = 'key-of-vera-who-may-only-look-at-things'
const HOOK = 'https://alerts.example/a-secret-part-of-an-address'
const VARS = {
  ADMIN_KEYS: `vera:viewer:${VIEWER_KEY}`,
  ALERT_WEBHOOK_URL: HOOK,
  ALERT_FORMAT: 'slack',
}

let app: LocalApp
afterEach(() => app.close())

async function session(key: string): Promise<Record<string, string>> {
  const body = JSON.stringify({ key })
  const { headers } = await app.send('/api/admin/login', { method: 'POST', body })
  return { cookie: headers.get('set-cookie')?.split(';')[0] ?? '', ...SAME_ORIGIN }
}
const form = { method: 'POST', body: '' }

test('an admin sends a test, and sees whether it arrived', async () => {
  app = await localApp(VARS)
  const headers = await session(ADMIN_KEY)
  const page = async () => (await app.send('/admin/alerts', { headers })).text
  expect(await page()).toContain('Nothing was told yet.')
  const sent = await app.send('/admin/alerts/test', { ...form, headers })
  expect([sent.status, sent.headers.get('location')]).toEqual([
    303,
    '/admin/alerts?done=test-delivered',
  ])
  const done = await app.send('/admin/alerts?done=test-delivered', { headers })
  expect(done.text).toContain('The receiver took the test.')
  app.receiver.answer = () => new Response(null, { status: 500 })
  const again = await app.send('/admin/alerts/test', { ...form, headers })
  expect(again.headers.get('location')).toBe('/admin/alerts?done=test-pending')
  const text = await page()
  expect(text.match(/This is a test\./g)).toHaveLength(2)
  for (const word of ['delivered', 'pending', '>500<', '>204<']) expect(text).toContain(word)
  expect(text).not.toContain('a-secret-part')
  expect((await app.store.audit(2)).map(({ action, by }) => [action, by])).toEqual([
    ['test alert', 'admin'],
    ['test alert', 'admin'],
  ])
})

test('a label is text there, and a viewer sees no button', async () => {
  app = await localApp(VARS)
  await app.ask('token-of-ann')
  const userId = (await app.store.events(1))[0]?.user
  await app.admin('PATCH', `users/${userId}`, { label: '<script>x</script>' })
  await app.admin('POST', 'usage', { userId, model: '*', blocked: true })
  const headers = await session(VIEWER_KEY)
  const { status, text } = await app.send('/admin/alerts', { headers })
  expect(status).toBe(200)
  expect(text).toContain('&lt;script&gt;x&lt;/script&gt; (user ')
  expect(text).not.toContain('Send a test')
  const sent = await app.send('/admin/alerts/test', { ...form, headers })
  expect(sent.status).toBe(403)
  expect(app.receiver.hooks).toHaveLength(1)
})

test('a refresh has the alerts of the meantime, with a link to the user', async () => {
  app = await localApp(VARS)
  const headers = { ...(await session(ADMIN_KEY)), 'x-weir-live': '1' }
  const first = await app.send('/admin/alerts', { headers })
  const again = { ...headers, 'if-none-match': first.headers.get('etag') ?? '' }
  expect((await app.send('/admin/alerts', { headers: again })).status).toBe(304)
  await app.ask('token-of-ann')
  const userId = (await app.store.events(1))[0]?.user
  await app.admin('POST', 'usage', { userId, model: '*', blocked: true })
  const next = await app.send('/admin/alerts', { headers: again })
  expect([next.status, /id="alerts"[^>]*data-live/.test(next.text)]).toEqual([200, true])
  expect(next.text).toContain(`User <a href="/admin/users/${userId}">${userId}</a> was blocked`)
})

test('without a receiver it says what to set, and that no alert is sent', async () => {
  app = await localApp()
  const alert = { id: 'i', type: 'upstream.errors', calls: 20, failures: 3 } as const
  await app.store.execute({ op: 'raise', now: app.clock.now, alert })
  const headers = await session(ADMIN_KEY)
  const { text } = await app.send('/admin/alerts', { headers })
  const words = text.replaceAll(/<[^>]*>/g, '')
  expect(words).toContain('Set ALERT_WEBHOOK_URL and ALERT_WEBHOOK_SECRET')
  expect(words).toContain('not sent')
  expect(words).not.toContain('pending')
  expect(text).not.toContain('Send a test')
})

import { appendFile, cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, test } from 'vitest'
import { ASSETS } from '../../src/views/assets.ts'
import { logIn } from '../support/admin.ts'
import { assetsOf, expectAssets } from '../support/assets.ts'
import { KINDS } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()
const { script, style } = ASSETS

describe.each(KINDS)('on %s', (kind) => {
  test('the URL of a file contains its digest, and only this URL is served, as immutable', async () => {
    const { url } = await world.gateway(kind)
    const headers = await logIn({ url })
    const page = async (path: string) => (await fetch(url + path, { headers })).text()
    expect(assetsOf(await page('/'))).toEqual([style.path])
    expect(assetsOf(await page('/admin'))).toEqual([style.path, script.path])
    await expectAssets((path) => fetch(url + path), [style.path, script.path])
  })

  test('HEAD is answered, POST is not', async () => {
    const { url } = await world.gateway(kind)
    const head = await fetch(url + script.path, { method: 'HEAD' })
    expect([head.status, await head.text()]).toEqual([200, ''])
    expect(head.headers.get('cache-control')).toMatch(/immutable/)
    const post = await fetch(url + script.path, { method: 'POST' })
    expect([post.status, post.headers.get('cache-control')]).toEqual([404, 'no-store'])
  })
})

test('a file that changes gets another address', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'weir-assets-'))
  try {
    await cp('src/views/assets', join(folder, 'assets'), { recursive: true })
    const module = join(folder, 'assets.ts')
    await cp('src/views/assets.ts', module)
    const { readAssets } = (await import(pathToFileURL(module).href)) as {
      readAssets(): typeof ASSETS
    }
    expect(readAssets()).toEqual(ASSETS)
    await appendFile(join(folder, 'assets/style/tables.css'), 'td{}')
    const changed = readAssets()
    expect(changed.script).toEqual(script)
    expect(changed.style.path).not.toBe(style.path)
    expect(changed.style.text).toContain('td{}')
  } finally {
    await rm(folder, { recursive: true })
  }
})

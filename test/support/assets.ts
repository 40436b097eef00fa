/** The files that a page loads, found from the page alone. */
import { createHash } from 'node:crypto'
import { expect } from 'vitest'

type Get = (path: string, init?: RequestInit) => Promise<Response>

const IMMUTABLE = 'public, max-age=31536000, immutable'

/** The addresses with a digest that a page links to. */
export const assetsOf = (page: string): string[] =>
  [...page.matchAll(/ (?:href|src)="(\/assets\/[^"]*)"/g)].map(([, path = '']) => path)

/**
 * Checks that each file is served as immutable with the content that its address names, and that a wrong address finds
 * nothing.
 */
export async function expectAssets(get: Get, paths: string[]): Promise<void> {
  for (const path of paths) {
    const [, digest = '', name = ''] = /^\/assets\/([\w-]{43})\/([\w.]+)$/.exec(path) ?? []
    const response = await get(path)
    expect([path, response.status]).toEqual([path, 200])
    const content = Buffer.from(await response.arrayBuffer())
    expect(createHash('sha256').update(content).digest('base64url')).toBe(digest)
    const { headers } = response
    expect(headers.get('cache-control')).toBe(IMMUTABLE)
    expect(headers.get('x-content-type-options')).toBe('nosniff')
    expect(headers.get('content-type')).toMatch(
      name.endsWith('.js') ? /^text\/javascript/ : /^text\/css/,
    )
    const other = (digest.startsWith('A') ? 'B' : 'A') + digest.slice(1)
    for (const wrong of [path.replace(digest, other), `/assets/${name}`, `/${name}`]) {
      const refused = await get(wrong)
      expect([wrong, refused.status]).toEqual([wrong, 404])
      if (wrong.startsWith('/assets/'))
        expect(refused.headers.get('cache-control')).toBe('no-store')
      await refused.arrayBuffer()
    }
  }
}

import { readdir, readFile, stat } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { VARIABLES } from '../../src/config/config.ts'
import { TABLE, type Default } from '../../src/config/variables.ts'

/** The cells of the table of variables, row by row. */
async function configuration(): Promise<string[][]> {
  const text = await readFile('docs/configuration.md', 'utf8')
  return text
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
}

const namesOf = (cell = ''): string[] => cell.match(/[A-Z_]{3,}/g) ?? []

test('configuration.md has every variable once, and no other', async () => {
  const names = (await configuration()).flatMap(([, cell]) => namesOf(cell))
  expect(names.toSorted()).toEqual([...VARIABLES].toSorted())
})

/** A default value in the README's notation. */
function defaultCell(byDefault: Default): string {
  if (byDefault === undefined) return ''
  if (typeof byDefault === 'string') return `\`${byDefault}\``
  return `\`${byDefault.node}\`, edge \`${byDefault.edge}\``
}

test('configuration.md has the default of every variable', async () => {
  const told = (await configuration()).flatMap(([, names, byDefault]) =>
    namesOf(names).map((name) => [name, byDefault]),
  )
  const known = TABLE.map((row) => [row.name, defaultCell(row.default)])
  expect(Object.fromEntries(told)).toEqual(Object.fromEntries(known))
})

test('CONTRIBUTING.md and docs/ list the commands of package.json', async () => {
  const docs = (await readdir('docs')).filter((name) => name.endsWith('.md'))
  const pages = ['CONTRIBUTING.md', ...docs.map((name) => `docs/${name}`)]
  const text = (await Promise.all(pages.map((page) => readFile(page, 'utf8')))).join('\n')
  const { scripts } = JSON.parse(await readFile('package.json', 'utf8')) as { scripts: object }
  const named = [...text.matchAll(/npm (?:run (?=\w))?((?<=run )[\w:-]*\w|start|test)\b/g)].map(
    ([, name]) => name,
  )
  expect(new Set(named)).toEqual(new Set(Object.keys(scripts)))
})

test('the README is short, and begins with what it is, a picture and the buttons', async () => {
  const text = await readFile('README.md', 'utf8')
  expect(text.split('\n').length).toBeLessThan(150)
  const parts = [
    '**A small gateway',
    '[![',
    '<picture>',
    'vercel.com/button',
    '```mermaid',
    '## Why',
  ]
  const more = ['## Quick start', '## Use it', '## How it compares', 'not for you if']
  const places = [...parts, ...more].map((part) => text.indexOf(part))
  expect(places).not.toContain(-1)
  expect(places).toEqual(places.toSorted((a, b) => a - b))
})

test('the pictures are there, light and dark, and small', async () => {
  const names = await readdir('docs/images')
  for (const name of names) {
    expect(names).toContain(name.replace('-light.', '-dark.'))
    expect([name, (await stat(`docs/images/${name}`)).size < 200 * 1024]).toEqual([name, true])
  }
})

test('the button for Vercel asks for what the page says, and for a database of Upstash', async () => {
  const [, address = ''] =
    /\((https:\/\/vercel\.com\/new\/clone[^)]+)\)/.exec(await readFile('README.md', 'utf8')) ?? []
  const { searchParams } = new URL(address)
  const page = await readFile('docs/deploy-vercel.md', 'utf8')
  const names = searchParams.get('env')?.split(',') ?? []
  expect(names).toEqual(['GROQ_API_KEY', 'ADMIN_KEY', 'USER_HASH_SECRET'])
  for (const name of names) {
    expect(VARIABLES).toContain(name)
    expect(page).toContain(`\`${name}\``)
  }
  expect(JSON.parse(searchParams.get('products') ?? '')).toEqual([
    {
      type: 'integration',
      protocol: 'storage',
      productSlug: 'upstash-kv',
      integrationSlug: 'upstash',
    },
  ])
  const repository = searchParams.get('repository-url') ?? ''
  expect(repository).toMatch(/^https:\/\/github\.com\/[^/]+\/weir$/)
  expect(searchParams.get('envLink')).toBe(`${repository}/blob/main/docs/deploy-vercel.md`)
  expect(searchParams.get('envDescription')).toContain('ADMIN_KEY')
})

test('the button for Cloudflare asks for the secrets that the page says, and deploys both workers', async () => {
  const readme = await readFile('README.md', 'utf8')
  const [, address = ''] = /\((https:\/\/deploy\.workers[^)]+\?[^)]+)\)/.exec(readme) ?? []
  const url = new URL(address).searchParams.get('url') ?? ''
  expect(readme).toContain(encodeURIComponent(url))
  const example = await readFile('.dev.vars.example', 'utf8')
  const names = [...example.matchAll(/^([A-Z_]+)=/gm)].map(([, name = '']) => name)
  const page = await readFile('docs/deploy-cloudflare.md', 'utf8')
  const put = [...page.matchAll(/wrangler secret put ([A-Z_]+)/g)].map(([, name = '']) => name)
  expect(names).toEqual(put)
  const { scripts, cloudflare } = JSON.parse(await readFile('package.json', 'utf8')) as {
    scripts: { deploy: string }
    cloudflare: { bindings: Record<string, { description: string }> }
  }
  expect(Object.keys(cloudflare.bindings)).toEqual(names)
  expect(scripts.deploy).toBe('npx wrangler deploy -c wrangler.pages.toml && npx wrangler deploy')
})

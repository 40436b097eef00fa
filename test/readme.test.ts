import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { VARIABLES } from '../src/config.ts'

test('the table of the README has every variable once, and no other', async () => {
  const text = await readFile('README.md', 'utf8')
  const table = text.slice(text.indexOf('## Configuration'), text.indexOf('## Deploy'))
  const rows = table.split('\n').filter((line) => line.startsWith('| `'))
  const names = rows.flatMap((row) => row.split('|')[1]?.match(/[A-Z_]{3,}/g) ?? [])
  expect(names.toSorted()).toEqual([...VARIABLES].toSorted())
})

test('the README names the commands that package.json has', async () => {
  const text = await readFile('README.md', 'utf8')
  const { scripts } = JSON.parse(await readFile('package.json', 'utf8')) as { scripts: object }
  const named = [...text.matchAll(/npm (?:run (?=\w))?((?<=run )[\w:-]*\w|start|test)\b/g)].map(
    ([, name]) => name,
  )
  expect(new Set(named)).toEqual(new Set(Object.keys(scripts).filter((name) => name !== 'format')))
})

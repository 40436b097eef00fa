import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { VARIABLES } from '../../src/config/config.ts'
import { TABLE, type Default } from '../../src/config/variables.ts'

/** The cells of the table of variables, row by row. */
async function configuration(): Promise<string[][]> {
  const text = await readFile('README.md', 'utf8')
  const table = text.slice(text.indexOf('## Configuration'), text.indexOf('## Deploy'))
  return table
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
}

const namesOf = (cell = ''): string[] => cell.match(/[A-Z_]{3,}/g) ?? []

test('the table of the README has every variable once, and no other', async () => {
  const names = (await configuration()).flatMap(([, cell]) => namesOf(cell))
  expect(names.toSorted()).toEqual([...VARIABLES].toSorted())
})

/** A default value in the README's notation. */
function defaultCell(byDefault: Default): string {
  if (byDefault === undefined) return ''
  if (typeof byDefault === 'string') return `\`${byDefault}\``
  return `\`${byDefault.node}\`, edge \`${byDefault.edge}\``
}

test('the table of the README has the default of every variable', async () => {
  const told = (await configuration()).flatMap(([, names, byDefault]) =>
    namesOf(names).map((name) => [name, byDefault]),
  )
  const known = TABLE.map((row) => [row.name, defaultCell(row.default)])
  expect(Object.fromEntries(told)).toEqual(Object.fromEntries(known))
})

test('the README lists the commands of package.json', async () => {
  const text = await readFile('README.md', 'utf8')
  const { scripts } = JSON.parse(await readFile('package.json', 'utf8')) as { scripts: object }
  const named = [...text.matchAll(/npm (?:run (?=\w))?((?<=run )[\w:-]*\w|start|test)\b/g)].map(
    ([, name]) => name,
  )
  expect(new Set(named)).toEqual(new Set(Object.keys(scripts).filter((name) => name !== 'format')))
})

/** The deliberate mistakes still fit the code and the tests. `npm run mutants` checks that the tests notice them. */
import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { DEFENCE_MUTANTS, LEDGER_MUTANTS, type Mutant } from '../support/mutants.ts'

const namesWhere = (isWrong: (mutant: Mutant) => boolean): string[] =>
  [...LEDGER_MUTANTS, ...DEFENCE_MUTANTS].filter(isWrong).map(({ name }) => name)

const textOf = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : '')

test('each mistake changes text that its file contains exactly once', () => {
  expect(namesWhere(({ file, find }) => textOf(file).split(find).length !== 2)).toEqual([])
})

test('each mistake has test files that exist', () => {
  expect(namesWhere(({ tests }) => !tests.length || !tests.every(existsSync))).toEqual([])
})

// Titles that `test.each` composes are not in the text, so `only` is a part of them that is.
test('what selects the tests of a mistake is in one of their files', () => {
  const isNowhere = ({ tests, only = '' }: Mutant) =>
    !tests.some((path) => new RegExp(only).test(textOf(path)))
  expect(namesWhere(isNowhere)).toEqual([])
})

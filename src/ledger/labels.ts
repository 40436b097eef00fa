/** Labels: names of users for people, and the words by which a user is found. */
import type { ProfileDoc, UsageDoc } from './documents.ts'

/** The most words of a label by which a user is found. */
const LABEL_WORDS = 10

type Named = {
  usage?: Pick<UsageDoc, 'label' | 'words'> | undefined
  profile?: Pick<ProfileDoc, 'label' | 'words'> | undefined
}

/** The label that an admin gave, else the one of the user's token. */
export const labelOf = ({ usage, profile }: Named): string | undefined =>
  profile?.label ?? usage?.label

/** The words by which a user is found: those of both labels. */
export const wordsOf = ({ usage, profile }: Named): string[] =>
  Object.keys({ ...usage?.words, ...profile?.words })

/** The words of a label, `folded` before they reach the ledger: Lua can fold only ASCII. */
export const labelWords = (label: string): Record<string, 1> => {
  const words = folded(label).split(/\s+/).filter(Boolean).slice(0, LABEL_WORDS)
  return Object.fromEntries(words.map((word) => [word, 1]))
}

/** A text in the form in which words are compared: any case, and any way to write a character. */
const folded = (text: string): string => text.normalize('NFKC').toLowerCase()

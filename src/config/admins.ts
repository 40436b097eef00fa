/** The variables of admins: their keys, names and roles. */
import { adminKey, list, type Parse } from './parse.ts'

/** `viewer` reads, and sees no addresses and no exports. */
const ROLES = ['admin', 'viewer'] as const
type Role = (typeof ROLES)[number]

export type AdminKey = {
  /** As the audit trail names the admin. */
  name: string
  role: Role
  key: string
}

/** The name of the admin with `ADMIN_KEY`. */
const ADMIN = 'admin'

const ENTRY = /^([a-z0-9][a-z0-9-]{0,31}):([a-z]+):(.*)$/

const LIKE =
  'must be a list of NAME:ROLE:KEY, separated by commas: names of up to 32 small letters, digits and hyphens, each once; the role admin or viewer; keys of at least 16 printable characters without spaces and commas, each once.'

/** Takes a list of admins. */
export const adminKeys: Parse<AdminKey[]> = (text) => {
  const parsed = list(text)
  const entries = 'value' in parsed ? parsed.value.map(entryOf) : []
  const value = entries.flatMap((entry) => entry ?? [])
  const isRight = value.length > 0 && value.length === entries.length && areApart(value)
  return isRight ? { value } : { problem: LIKE }
}

function entryOf(text: string): AdminKey | undefined {
  const [, name = '', word, key = ''] = ENTRY.exec(text) ?? []
  const role = ROLES.find((one) => one === word)
  return role && 'value' in adminKey(key) ? { name, role, key } : undefined
}

/** Whether no two admins have the same name or the same key. */
const areApart = (all: AdminKey[]): boolean =>
  new Set(all.map(({ name }) => name)).size === all.length &&
  new Set(all.map(({ key }) => key)).size === all.length

/** All admins. Tells what is wrong with both variables together. */
export function adminsOf(
  key: string | undefined,
  others: AdminKey[] = [],
): { admins: AdminKey[]; problem?: string } {
  const first: AdminKey[] = key === undefined ? [] : [{ name: ADMIN, role: 'admin', key }]
  const admins = [...first, ...others]
  return areApart(admins)
    ? { admins }
    : {
        admins,
        problem: `ADMIN_KEYS must not have the key of ADMIN_KEY, nor the name ${ADMIN} beside it.`,
      }
}

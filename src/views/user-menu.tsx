/** What an admin does to a user: a menu in each row of a list and on the user's page, which works without scripts. */
import { ALL_MODELS } from '../ledger/documents.ts'

type OfMenu = { id: string; label: string | undefined; blocked: string[] }

/** The deeds of the menu, as the form sends them. */
const BLOCKS = {
  'block-60': 'Block for 1 hour',
  'block-1440': 'Block for 1 day',
  block: 'Block until unblocked',
} as const
const RAISE = { raise: 'Double limits until midnight UTC' } as const

export type Deed = keyof typeof BLOCKS | keyof typeof RAISE | 'unblock'

/** The menu of a user. `back` is the page to which its buttons lead. */
export function userMenu({ id, label, blocked }: OfMenu, back: string) {
  const who = (label ?? id).slice(0, 60)
  const menu = `menu-${id}`
  const isBlocked = blocked.includes(ALL_MODELS)
  const deeds = isBlocked ? RAISE : { ...BLOCKS, ...RAISE }
  return (
    <>
      <button
        type="button"
        class="quiet more"
        popovertarget={menu}
        aria-label={`Actions for ${who}`}
      >
        ⋯
      </button>
      <div popover="auto" id={menu} class="menu">
        <p>
          <bdi>{who}</bdi>
        </p>
        <form method="post" action={`/admin/users/${id}/quick`}>
          <input type="hidden" name="back" value={back} />
          {blocked.length > 0 && (
            <button name="do" value="unblock">
              {isBlocked ? 'Unblock' : 'Unblock models'}
            </button>
          )}
          {Object.entries(deeds).map(([deed, title]) => (
            <button name="do" value={deed}>
              {title}
            </button>
          ))}
        </form>
        <a href={`/admin/users/${id}?open=limits#profile`}>Change limits…</a>
        <button type="button" data-copy={id} hidden>
          Copy id
        </button>
        {label && <code>Id {id}</code>}
      </div>
    </>
  )
}

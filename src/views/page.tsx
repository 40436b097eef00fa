/** The frame of every page. */
import type { Child } from 'hono/jsx'
import { ASSETS } from './assets.ts'
import { ForViewer } from './admins-only.tsx'
import { exact, short } from './format.ts'
import { name, time } from './parts.tsx'
import { Glossary } from './terms.tsx'

/** What the frame of a dashboard page shows. */
export type Frame = {
  now: number
  /** The path of the page. */
  path?: string
  /** The platform and the storage. */
  place: string
  /** Who is logged in. */
  who?: string
  /** The page is for a viewer. */
  viewer?: boolean
  /** The database is away, as far as this instance knows. */
  away?: boolean
  /** What is counted beside the names of pages, by their paths: users and requests of today. */
  counts?: Record<string, number>
  /** What was searched for, if nothing was found. */
  search?: string
  /** The page is not refreshed. */
  still?: boolean
  /** How often assets/admin.js refreshes the page, in ms, if it is not as often as usual. */
  every?: number
  notice?: Child
}

/** The pages that every page leads to: paths and titles. */
const PAGES = [
  ['/admin', 'Overview'],
  ['/admin/users', 'Users'],
  ['/admin/requests', 'Requests'],
  ['/admin/plans', 'Plans'],
  ['/admin/alerts', 'Alerts'],
  ['/admin/audit', 'Audit'],
  ['/admin/settings', 'Settings'],
] as const

/** The name of the field that finds users and requests. */
export const SEARCH = 'Find a user or a request'
type Document = {
  title: string
  /** Blocks of code get a button that copies them. */
  copies?: boolean
  children?: Child
}

/** A whole document. With a frame it is a page of the dashboard, which assets/admin.js refreshes. */
export const Page = (props: Document & Partial<Frame>) => (
  <html lang="en">
    <head>
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width" />
      <meta name="color-scheme" content="light dark" />
      <title>{`${props.title} · Weir`}</title>
      <link rel="stylesheet" href={ASSETS.style.path} />
      {props.now && <script type="module" src={ASSETS.script.path} />}
      {props.copies && <script type="module" src="/copy.js" />}
      <link rel="icon" href="/favicon.svg" />
    </head>
    <body class={props.now ? '' : 'narrow'}>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <header>
        <a class="logo" href={props.now ? '/admin' : '/'}>
          <img src="/favicon.svg" alt="" width="22" height="22" />
          Weir
        </a>
        {props.now && (
          <>
            {state(props.now, props)}
            {searchForm(props.search)}
            {pagesNav(props.path ?? '', props.counts ?? {})}
            <form method="post" action="/api/admin/logout" class="out">
              <span class="soft place">{props.place}</span>
              {props.who && <span class="soft">{name(props.who)}</span>}
              <button class="quiet">Log out</button>
            </form>
          </>
        )}
      </header>
      <main id="main">
        <ForViewer.Provider value={props.viewer ?? false}>
          {props.search !== undefined && (
            <p id="find-problem" class="notice bad" role="alert">
              Nothing was found for “{name(props.search)}”: no user has this label, id, token or
              key, and no request this x-weir-id.
            </p>
          )}
          {props.notice}
          {props.children}
        </ForViewer.Provider>
        {props.now && <Glossary />}
      </main>
    </body>
  </html>
)

/** The page of the navigation that a path is, or is below. */
export const sectionOf = (path: string): (typeof PAGES)[number] | undefined =>
  PAGES.find(([own]) => path === own || (own !== '/admin' && path.startsWith(`${own}/`)))

const pagesNav = (at: string, counts: Record<string, number>) => (
  <nav class="pages-of" aria-label="Pages" id="pages" data-live>
    {PAGES.map(([path, name]) => (
      <a
        href={path}
        aria-current={path === at ? 'page' : path === sectionOf(at)?.[0] ? 'true' : undefined}
      >
        {name}
        {counts[path] !== undefined && (
          <small title={`${exact(counts[path])} today`}>
            {short(counts[path])}
            <span class="hide"> today</span>
          </small>
        )}
      </a>
    ))}
  </nav>
)

/** Whether the page is live and the database there, and the button that stops refreshes. */
const state = (now: number, { away, every, still }: Partial<Frame>) => (
  <p class="state">
    <span
      id="live"
      class="soft"
      data-health={away ? 'away' : 'live'}
      data-every={every}
      data-still={still}
      hidden
    >
      <span role="status">{away ? 'Database down' : 'Live'}</span> {time(now, now)}
    </span>
    <button id="pause" class="quiet" type="button" hidden>
      Pause
    </button>
  </p>
)

const searchForm = (failed: Frame['search']) => (
  <form method="post" action="/admin/find" class="find" role="search">
    <input
      name="q"
      value={failed}
      aria-label={SEARCH}
      aria-describedby={failed === undefined ? undefined : 'find-problem'}
      aria-invalid={failed === undefined ? undefined : 'true'}
      placeholder="Label, id, token or key"
      title="The beginning of a word of a label or of an id, a whole token, a key or its id, or an x-weir-id"
      autocomplete="off"
      required
    />
    <button class="quiet">Find</button>
  </form>
)

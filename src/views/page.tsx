/** The frame of every page. */
import type { Child } from 'hono/jsx'
import { ASSETS } from './assets.ts'
import { ForViewer } from './admins-only.tsx'
import { time } from './parts.tsx'

/** What the frame of a dashboard page shows. */
export type Frame = {
  now: number
  /** The platform, the storage, and the name of the admin. */
  place: string
  /** The page is for a viewer. */
  viewer?: boolean
  notice?: Child
}

/** The pages that every page leads to: paths and titles. */
const PAGES = [
  ['/admin', 'Dashboard'],
  ['/admin/plans', 'Plans'],
  ['/admin/settings', 'Settings'],
] as const

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
            <nav class="pages-of" aria-label="Pages">
              {PAGES.map(([path, title]) => (
                <a href={path} aria-current={title === props.title ? 'page' : undefined}>
                  {title}
                </a>
              ))}
            </nav>
            <span class="soft place">{props.place}</span>
            <span id="live" class="soft" hidden>
              <span role="status">Live</span> {time(props.now, props.now)}
            </span>
            <form method="post" action="/api/admin/logout">
              <button class="quiet">Log out</button>
            </form>
          </>
        )}
      </header>
      <main id="main">
        <ForViewer.Provider value={props.viewer ?? false}>
          {props.notice}
          {props.children}
        </ForViewer.Provider>
      </main>
    </body>
  </html>
)

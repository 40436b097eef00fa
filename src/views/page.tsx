/** The frame of every page. */
import type { Child } from 'hono/jsx'
import { time } from './parts.tsx'

/** What the dashboard's pages are framed with. */
export type Frame = {
  now: number
  /** Where this runs, and where it keeps its counts. */
  place: string
  notice?: Child
}

/** A whole document; with a frame it is one of the dashboard, which static/admin.js keeps up to date. */
export const Page = (props: { title: string; children?: Child } & Partial<Frame>) => (
  <html lang="en">
    <head>
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width" />
      <meta name="color-scheme" content="light dark" />
      <title>{`${props.title} · Weir`}</title>
      <link rel="stylesheet" href="/admin.css" />
      {props.now && <script type="module" src="/admin.js" />}
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
        {props.notice}
        {props.children}
      </main>
    </body>
  </html>
)

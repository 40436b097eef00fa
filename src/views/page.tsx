/** The frame of every page. */
import type { Child } from 'hono/jsx'

export type PageProps = {
  title: string
  children?: Child
  /** What stands in the head of the page beside the name. */
  bar?: Child
  /** Whether static/admin.js keeps it up to date. */
  live?: boolean
  narrow?: boolean
}

/** A whole document. */
export function Page({ title, children, bar, live, narrow }: PageProps) {
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width" />
        <meta name="color-scheme" content="light dark" />
        <title>{`${title} · Weir`}</title>
        <link rel="stylesheet" href="/admin.css" />
        {live && <script type="module" src="/admin.js" />}
        <link rel="icon" href="/favicon.svg" />
      </head>
      <body class={narrow ? 'narrow' : undefined}>
        <a class="skip" href="#main">
          Skip to content
        </a>
        <header>
          <a class="logo" href={bar ? '/admin' : '/'}>
            <img src="/favicon.svg" alt="" width="22" height="22" />
            Weir
          </a>
          {bar}
        </header>
        <main id="main">{children}</main>
      </body>
    </html>
  )
}

/** A page that says one thing: what is so, and what to do. */
export const Message = ({ title, children }: { title: string; children?: Child }) => (
  <Page title={title} narrow>
    <section class="card">
      <h1>{title}</h1>
      {children}
    </section>
  </Page>
)

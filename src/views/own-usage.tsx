/** The page at `/usage`: what the holder of a key or token has used and has left. assets/usage.js fills it in. */
import { ASSETS } from './assets.ts'

export const ownUsagePage = () => (
  <html lang="en">
    <head>
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width" />
      <meta name="color-scheme" content="light dark" />
      <title>Your usage</title>
      <link rel="stylesheet" href={ASSETS.style.path} />
      <link rel="stylesheet" href={ASSETS.usageStyle.path} />
      <script type="module" src={ASSETS.usage.path} />
      <link rel="icon" href="/favicon.svg" />
    </head>
    <body class="narrow own">
      <main id="main">
        <h1>Your usage</h1>
        <noscript>
          <p class="notice bad">This page needs JavaScript.</p>
        </noscript>
        {/* The field has no name, so that a browser without the script cannot put the key into an address. */}
        <form id="ask" class="card">
          <label for="key">Your key or token</label>
          <input
            id="key"
            type="password"
            required
            autocomplete="off"
            spellcheck={false}
            aria-describedby="hint problem"
          />
          <p id="hint" class="soft">
            It is sent to this gateway only. This page does not store it: when you leave or reload
            the page, it is gone.
          </p>
          <button>Show my usage</button>
        </form>
        <p id="problem" class="notice bad" role="alert" hidden />
        <section id="shown" tabindex={-1} aria-label="What you have used and have left" hidden>
          <div class="who">
            <p id="who" />
            <button id="again" type="button" class="quiet">
              Refresh
            </button>
            <button id="other" type="button" class="quiet">
              Another key
            </button>
          </div>
          <div id="blocks" />
          <div id="limits" />
          <p id="as-of" class="soft" />
        </section>
        <template id="of-model">
          <section class="card">
            <h2 />
            <ul />
          </section>
        </template>
        <template id="of-limit">
          <li>
            <div class="line">
              <b class="what" />
              <span class="left" />
            </div>
            <div class="share" aria-hidden="true">
              <i class="used" />
              <i class="held" />
            </div>
            <p class="soft more" />
          </li>
        </template>
      </main>
    </body>
  </html>
)

// @ts-check
/**
 * Counts a page's use of Weir, reports it, and says what is left or blocked.
 *
 *   <script type="module" src="https://HOST/tracker.js" data-user-token="TOKEN" data-banner></script>
 *
 * wraps `fetch` and sets `window.weir`. Or import `createTracker` and use its `fetch`.
 * Events: usage (own), quota (the gateway's), blocked, unblocked, sync, error. Times are epoch ms.
 */

const quietly = (run) => {
  try {
    return run()
  } catch {}
}

const isCount = (value) => value >>> 0 === value

// Leaves out windows that have ended.
const sumOf = (span, ...windows) => {
  const now = Date.now()
  const sum = { tokens: 0, requests: 0, resetAt: now - (now % span) + span }
  for (const { tokens, requests, resetAt = sum.resetAt } of windows.filter(Boolean)) {
    if (resetAt !== sum.resetAt || !isCount(tokens) || !isCount(requests)) continue
    sum.tokens += tokens
    sum.requests += requests
  }
  return sum
}

// Storage may hold anything.
const merge = (...parts) => {
  const all = {}
  for (const part of parts) {
    for (const model in part) {
      const minute = sumOf(60_000, all[model]?.minute, part[model]?.minute)
      const day = sumOf(86_400_000, all[model]?.day, part[model]?.day)
      if (day.requests && /^[a-z\d][\w.:/-]{0,127}$/i.test(model)) all[model] = { minute, day }
    }
  }
  return all
}

/**
 * `base` is the gateway's address, unless this file comes from it.
 * @param {{ userToken: string, base?: string, ipAddress?: string, banner?: boolean }} options
 */
export const createTracker = ({
  userToken,
  base = new URL('.', import.meta.url).href,
  ipAddress,
  banner,
}) => {
  const tracker = new EventTarget()
  const alert = document.createElement('div')
  const closed = new AbortController()
  const { signal } = closed
  const { fetch } = globalThis
  const api = new URL('api/', base.replace(/\/*$/, '/')).href
  // A signed token is soon replaced by another one of the same user.
  const { iss, sub = userToken } =
    quietly(() =>
      JSON.parse(atob(userToken.split('.')[1].replace(/-/g, '+').replace(/_/g, '/'))),
    ) ?? {}
  let hash = 0
  for (const one of api + iss + sub) hash = (hash * 31 + one.charCodeAt(0)) % 2 ** 40
  const key = 'weir:' + hash
  const answerKey = key + ':answer'

  // Counts that storage did not take.
  let unsaved = {}
  let busy = false
  let failures = 0
  let shown = '[]'
  // When to sync, in epoch ms: not before `free` + 2 s, else at `soon`, `quiet` (a burst is over)
  // or `late`.
  let free = 0
  let soon = 0
  let quiet = Infinity
  let late = 0
  let timer
  let release

  const emit = (type, detail) => tracker.dispatchEvent(new CustomEvent(type, { detail }))
  const load = (key) => quietly(() => JSON.parse(localStorage[key]))
  const save = (key, value) => quietly(() => (localStorage[key] = JSON.stringify(value)))
  const usage = () => merge(load(key), unsaved)

  const plan = () => {
    clearTimeout(timer)
    const at = Math.max(free + 2000, Math.min(soon, quiet, late))
    if (release) timer = setTimeout(sync, at - Date.now())
  }
  const now = () => {
    soon = 0
    plan()
  }
  const news = () => {
    emit('usage', usage())
    if (quiet === Infinity) late = Math.max(free + 30_000, Date.now() + 25_000)
    quiet = Date.now() + 5000
    plan()
  }

  /** @param {string} model @param {{ total_tokens: number }} used */
  const record = (model, used) => {
    const one = { tokens: used?.total_tokens, requests: 1 }
    unsaved = merge(unsaved, { [model]: { minute: one, day: one } })
    if (save(key, usage())) unsaved = {}
    news()
  }

  const sync = async () => {
    if (busy || !release || !navigator.onLine) return
    let wait = 0
    busy = true
    soon = quiet = Infinity
    late = Date.now() + 300_000
    try {
      const response = await fetch(api + 'tracking/sync', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ userToken, ipAddress, modelUsage: usage() }),
        keepalive: true,
        signal: AbortSignal.timeout(20_000),
      })
      wait = Number(response.headers.get('retry-after')) * 1000 || 0
      if (!response.ok) throw Error('Sync: ' + response.status)
      const answer = await response.json()
      // Not if a call was refused during the sync.
      if (soon) share(answer)
      emit('sync', answer)
      failures = 0
    } catch (error) {
      wait = Math.max(wait, Math.min(300_000, 5000 * 2 ** failures++) * (1 + Math.random() / 2))
      quiet = 0
      emit('error', error)
    }
    busy = false
    free = Date.now() + Math.min(wait, 86_400_000)
    plan()
  }

  const tell = ({ usage, blocked }) => {
    if (signal.aborted) return
    const list = blocked.filter(({ until }) => !until || until > Date.now())
    for (const { until, message } of list) soon = Math.min(soon, message ? 0 : (until ?? soon))
    if (usage) emit('quota', usage)
    if (shown === (shown = JSON.stringify(list))) return
    emit(list[0] ? 'blocked' : 'unblocked', list)
    alert.textContent = list
      .map(({ model, reason, until, message }) => {
        const end = until ? new Date(until).toLocaleString() : 'further notice'
        return (
          message ??
          `You are blocked from ${model === '*' ? 'all models' : model} until ${end}. ${reason ?? ''}`
        )
      })
      .join(' ')
    if (banner && list[0]) document.body.prepend(alert)
    else alert.remove()
  }
  const share = (answer) => {
    tell(answer)
    save(answerKey, answer)
  }
  const recall = () => {
    quietly(() => tell(load(answerKey)))
    plan()
  }

  // Looks for usage in what was read. An answer counts once, also if the page reads several copies.
  const look = (text, answer) => {
    let found
    for (const json of [text, ...text.split(/[\r\n]/)]) {
      quietly(() => {
        const said = JSON.parse(json.replace(/^data:/, ''))
        if (said.error?.code === 'user_blocked' && !answer.ok) {
          if (shown === '[]') share({ blocked: [said.error] })
          news()
        }
        const { model, usage } = said.response ?? said
        const used = usage ?? said.x_groq.usage
        // Guard models leave the total out.
        const { total_tokens: total, prompt_tokens = 0 } = used
        const total_tokens = total === 0 ? prompt_tokens : total
        if (isCount(total_tokens)) found = () => record(model, { total_tokens })
      })
    }
    if (!found || answer.counted) return
    answer.counted = true
    found()
  }

  // The page keeps the answer that `fetch` gave, and what it reads is read along. A second reader would keep the call
  // going after the page has cancelled it, and take in what the page does not.
  const watch = (response, answer) => {
    const define = (name, how) => Object.defineProperty(response, name, how)
    // The stream is another one after each copy.
    /** @returns {any} */
    const body = () => Reflect.get(Response.prototype, 'body', response)
    const clone = response.clone.bind(response)
    const copy = () => {
      quietly(() =>
        clone()
          .text()
          .then((text) => look(text, answer))
          .catch(() => {}),
      )
    }
    if (!response.ok) return copy()
    for (const name of ['text', 'json', 'arrayBuffer', 'blob', 'bytes', 'formData']) {
      const whole = response[name]
      if (whole) define(name, { value: () => (copy(), whole.call(response)) })
    }
    define('clone', { value: () => watched(clone(), answer) })

    let reader
    let stream
    let text = ''
    const decoder = new TextDecoder()
    const source = {
      async pull(controller) {
        reader ??= body().getReader()
        const { done, value } = await reader.read()
        if (done) {
          controller.close()
          controller.byobRequest?.respond(0)
          look(text, answer)
        } else {
          text += decoder.decode(value, { stream: true })
          controller.enqueue(value)
        }
      },
      cancel(reason) {
        look(text, answer)
        return (reader ?? body()).cancel(reason)
      },
    }
    const open = () =>
      // Older Safari has no streams of bytes.
      quietly(() => new ReadableStream({ ...source, type: 'bytes' })) ??
      new ReadableStream(source, { highWaterMark: 0 })
    // Once all was read by one call, the stream is the one that this call has locked.
    define('body', {
      get: () => (!body() || (body().locked && !reader) ? body() : (stream ??= open())),
    })
  }
  const watched = (response, answer) => {
    quietly(() => watch(response, answer))
    return response
  }

  const start = (done) => {
    release = done
    free = Date.now()
    now()
  }
  const lead = async () => {
    try {
      await navigator.locks.request(key, { signal }, () => new Promise(start))
    } catch {
      if (!signal.aborted) start(() => {})
    }
  }
  const stop = () => (release = release?.())
  const on = (type, run) => addEventListener(type, run, { signal })

  on('storage', ({ key: changed }) => {
    if (changed === key) news()
    if (changed === answerKey) recall()
  })
  on('online', now)
  on('pageshow', (event) => event.persisted && lead())
  on('pagehide', () => {
    busy = false
    if (release && quiet < Infinity) void sync()
    stop()
  })

  alert.role = 'alert'
  alert.style.cssText = 'padding:1em;background:#911;color:#fff'
  // The tab that leads syncs soon and gets the answer.
  setTimeout(() => release || recall(), 500)
  void lead()

  return Object.assign(tracker, {
    record,
    usage,
    /** @type {typeof fetch} */
    async fetch(input, init) {
      const response = await fetch(input, init)
      const { url, ok } = response
      return url.startsWith(api + 'groq') ? watched(response, { ok }) : response
    },
    close() {
      closed.abort()
      stop()
      alert.remove()
    },
  })
}

for (const { src, dataset } of globalThis.document?.scripts ?? []) {
  const { userToken, banner } = dataset
  if (src !== import.meta.url || !userToken) continue
  const weir = createTracker({ ...dataset, userToken, banner: banner != null })
  Object.assign(window, { weir, fetch: weir.fetch })
}

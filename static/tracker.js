// @ts-check
/**
 * Counts a page's use of Weir, reports it, and says what is left or blocked: docs/tracker.md
 *
 *   <script type="module" src="https://HOST/tracker.js" data-user-token="TOKEN" data-banner></script>
 */

const quietly = (run) => {
  try {
    return run()
  } catch {}
}

const isCount = (value) => value >>> 0 === value

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

/** @param {{ userToken: any, base?: string, ipAddress?: string, banner?: any, help?: string }} options */
export const createTracker = ({
  userToken,
  base = new URL('.', import.meta.url).href,
  ipAddress,
  banner,
  help,
}) => {
  const tracker = new EventTarget()
  const closed = new AbortController()
  const { signal } = closed
  const { fetch } = globalThis
  const api = new URL('api/', base.replace(/\/*$/, '/')).href
  const view =
    banner != null &&
    banner !== false &&
    import(new URL('banner.js', import.meta.url).href).then((it) => it.createBanner(banner, help))
  const show = (...lists) => void (view && view.then((it) => it(...lists)).catch(() => {}))
  const renew = userToken.call && userToken
  let token
  let key
  let answerKey

  let unsaved = {}
  let busy = false
  let failures = 0
  let shown = '[]'
  const told = {}
  // Whether the user cannot call now.
  let stuck
  // When to sync: not before `free` + 2 s, else at `soon`, `quiet` (a burst is over) or `late`.
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
    if (key && save(key, usage())) unsaved = {}
    news()
  }

  const sync = async () => {
    if (busy || !release || !navigator.onLine) return
    let wait = 0
    busy = true
    soon = quiet = Infinity
    late = Date.now() + 300_000
    try {
      const send = () =>
        fetch(api + 'tracking/sync', {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ userToken: token, ipAddress, modelUsage: usage() }),
          keepalive: true,
          signal: AbortSignal.timeout(20_000),
        })
      let response = await send()
      if (response.status === 401 && renew) {
        token = await renew()
        response = await send()
      }
      if (response.status === 401) emit('expired')
      wait = Number(response.headers.get('retry-after')) * 1000 || 0
      if (!response.ok) throw Error('Sync: ' + response.status)
      const answer = await response.json()
      // Unless a call was refused meanwhile.
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
    const now = Date.now()
    const list = blocked.filter(({ until }) => !until || until > now)
    const spent = []
    const low = []
    for (const model in usage) {
      const {
        tokensUsedDay: used,
        tokensReservedDay: held,
        tokensRemainingDay: left,
        resetAt,
      } = usage[model]
      if (left == null || resetAt <= now) continue
      const one = { model, used, left, resetAt }
      if (left + held <= 0) spent.push(one)
      else if (used >= 0.8 * (used + held + left)) low.push(one)
    }
    for (const { until, message } of list) soon = Math.min(soon, message ? 0 : (until ?? soon))
    for (const { resetAt } of spent) soon = Math.min(soon, resetAt)
    stuck = list[0] || spent[0]
    if (stuck) late = Math.min(late, now + 30_000)
    if (usage) emit('quota', usage)
    for (const [type, models] of Object.entries({ spent, low })) {
      const names = models.map(({ model }) => model).join()
      if (told[type] !== (told[type] = names) && names) emit(type, models)
    }
    if (shown !== (shown = JSON.stringify(list))) emit(list[0] ? 'blocked' : 'unblocked', list)
    show(list, spent)
  }
  const share = (answer) => {
    tell(answer)
    save(answerKey, answer)
  }
  const recall = () => {
    quietly(() => tell(load(answerKey)))
    plan()
  }

  // An answer counts once, also if the page reads several copies.
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

  // What the page reads is read along. A second reader would keep a call going that the page has cancelled.
  const watch = (response, answer) => {
    const define = (name, how) => Object.defineProperty(response, name, how)
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
  for (const type of ['focus', 'visibilitychange'])
    on(type, () => stuck && !document.hidden && now())
  on('pageshow', (event) => event.persisted && lead())
  on('pagehide', () => {
    busy = false
    if (release && quiet < Infinity) void sync()
    stop()
  })

  const begin = (first) => {
    token = first
    // Signed tokens of a user follow each other.
    const { iss, sub = token } =
      quietly(() => JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')))) ??
      {}
    let hash = 0
    for (const one of api + iss + sub) hash = (hash * 31 + one.charCodeAt(0)) % 2 ** 40
    key = 'weir:' + hash
    answerKey = key + ':answer'
    setTimeout(() => release || recall(), 500)
    void lead()
  }
  const ask = async () => {
    try {
      begin(await renew())
    } catch (error) {
      emit('error', error)
      if (!signal.aborted) setTimeout(ask, 30_000)
    }
  }
  if (renew) void ask()
  else begin(userToken)

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
      show()
    },
  })
}

for (const { src, dataset } of globalThis.document?.scripts ?? []) {
  const { userToken, banner } = dataset
  if (src !== import.meta.url || !userToken) continue
  const weir = createTracker({ ...dataset, userToken, banner })
  Object.assign(window, { weir, fetch: weir.fetch })
}

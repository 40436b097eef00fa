// @ts-check
/** A chat box on Weir: the tracker's `fetch` asks the model, and its events tell what is left and what is blocked. */

// The gateway may be below a path.
const base = new URL('..', import.meta.url).href
/** @param {string} path */
const url = (path) => new URL(path, base).href
/** @type {typeof import('../../../../../static/tracker.js')} */
const { createTracker } = await import(url('tracker.js'))

// An application hands out a token for each of its users; here each browser makes one up.
const userToken = (localStorage.demoToken ??= `demo-user-${crypto.randomUUID()}`)
const headers = { authorization: `Bearer ${userToken}`, 'content-type': 'application/json' }
const weir = createTracker({ userToken, banner: true })

/** @param {string} id */
const byId = (id) => /** @type {any} */ (document.getElementById(id))
const number = new Intl.NumberFormat('en-US')
const count = (tokens, requests) =>
  `${number.format(tokens)} tokens in ${number.format(requests)} ${requests === 1 ? 'request' : 'requests'}`
const model = () => byId('model').value

/** What the gateway said last of each model. */
let quotas = {}
let own = {}

function show({ used, reserved, left, requests, resetAt }) {
  const all = used + reserved + left
  byId('left').textContent = number.format(left)
  byId('reserved').textContent = number.format(reserved) + ' tokens'
  byId('held').hidden = reserved === 0
  if (requests) byId('used').textContent = count(used, requests)
  byId('bar-used').style.width = `${(100 * used) / all}%`
  byId('bar-held').style.width = `${(100 * reserved) / all}%`
  byId('meter').ariaValueMax = all
  byId('meter').ariaValueNow = left
  const hours = Math.max(1, Math.round((resetAt - Date.now()) / 3_600_000))
  const time = new Date(resetAt).toLocaleTimeString([], { timeStyle: 'short' })
  byId('reset').textContent = `${time} your time, in ${hours} h`
}

function showModel() {
  byId('used').textContent = 'nothing yet'
  const { day } = own[model()] ?? {}
  byId('own').textContent = day ? count(day.tokens, day.requests) : 'nothing yet'
  const quota = quotas[model()]
  // Nothing is said of models that were not used yet; nothing remains where there is no limit.
  if (quota?.tokensRemainingDay != null) {
    show({
      used: quota.tokensUsedDay,
      reserved: quota.tokensReservedDay,
      left: quota.tokensRemainingDay,
      requests: quota.requestsDay,
      resetAt: quota.resetAt,
    })
  } else void showLimits()
}

/** The limits before the first call. */
async function showLimits() {
  const answer = await fetch(url('api/usage'), { headers })
  if (!answer.ok) return
  const { userId, limits } = await answer.json()
  byId('admin').href = url(`admin/users/${userId}`)
  const day = limits.filter(({ unit, window }) => unit === 'tokens' && window === 'day')
  const limit = day.find((one) => one.model === model()) ?? day[0]
  if (limit && !quotas[model()]) show({ ...limit, left: limit.limit - limit.used - limit.reserved })
}

weir.addEventListener('quota', (event) => {
  quotas = /** @type {CustomEvent} */ (event).detail
  byId('synced').textContent = new Date().toLocaleTimeString()
  showModel()
})
weir.addEventListener('usage', (event) => {
  own = /** @type {CustomEvent} */ (event).detail
  const { day } = own[model()] ?? {}
  if (day) byId('own').textContent = count(day.tokens, day.requests)
})
weir.addEventListener('blocked', () => lock(true))
weir.addEventListener('unblocked', () => lock(false))

/** @param {boolean} blocked */
function lock(blocked) {
  for (const id of ['text', 'send']) byId(id).disabled = blocked
  byId('text').placeholder = blocked ? 'You are blocked' : ''
}

/** What was said, as the model wants it. */
const messages = []
/** @type {AbortController | undefined} */
let running

const scrollDown = () => (byId('log').scrollTop = byId('log').scrollHeight)

/** @param {string} who @param {string} text */
function say(who, text) {
  const line = document.createElement('p')
  line.className = who
  line.textContent = text
  byId('log').append(line)
  scrollDown()
  return line
}

/** The text of an answer, piece by piece. @param {Response} response */
async function* pieces({ body }) {
  const reader = body?.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { value = '', done = true } = (await reader?.read()) ?? {}
    if (done) return
    const lines = (rest + value).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line.startsWith('data: {'))
        yield JSON.parse(line.slice(6)).choices[0]?.delta.content ?? ''
    }
  }
}

/** @param {string} content @param {object} more @param {AbortSignal} signal */
async function ask(content, more, signal) {
  messages.push({ role: 'user', content })
  say('user', content)
  const response = await weir.fetch(url('api/groq/openai/v1/chat/completions'), {
    method: 'POST',
    headers,
    body: JSON.stringify({ model: model(), stream: true, messages, ...more }),
    signal,
  })
  if (!response.ok) throw Error((await response.json()).error.message)
  const line = say('assistant', '')
  try {
    for await (const piece of pieces(response)) {
      line.textContent += piece
      scrollDown()
    }
  } finally {
    messages.push({ role: 'assistant', content: line.textContent })
  }
}

/** Sends a text. If that fails, the text is in the field again. @param {string} text */
async function send(text, more = {}) {
  if (!text || running) return
  byId('text').value = ''
  running = new AbortController()
  busy(true)
  try {
    await ask(text, more, running.signal)
  } catch (error) {
    if (messages.at(-1)?.role === 'user') {
      messages.pop()
      byId('text').value ||= text
    }
    const stopped = running.signal.aborted
    const offline = error instanceof TypeError
    const told = error instanceof Error ? error.message : 'That did not work.'
    if (!stopped) say('error', offline ? 'The gateway cannot be reached. Try again.' : told)
  }
  running = undefined
  busy(false)
}

/** @param {boolean} is */
function busy(is) {
  byId('log').ariaBusy = String(is)
  byId('send').hidden = is
  byId('stop').hidden = !is
}

byId('form').addEventListener('submit', (event) => {
  event.preventDefault()
  void send(byId('text').value.trim())
})
byId('stop').addEventListener('click', () => running?.abort())
// A maximum that no day has: the reservation does not fit.
byId('too-much').addEventListener('click', () =>
  send('Write a very long story.', { max_completion_tokens: 900_000 }),
)
byId('another').addEventListener('click', () => {
  delete localStorage.demoToken
  location.reload()
})
byId('model').addEventListener('change', showModel)

const { data = [] } = await (await fetch(url('api/groq/openai/v1/models'), { headers })).json()
for (const { id } of data) {
  if (id !== model()) byId('model').append(new Option(id))
}

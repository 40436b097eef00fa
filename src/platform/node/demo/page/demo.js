// @ts-check
/** A chat box on Weir: the tracker's `fetch` asks the model, and its events tell what is left and what is blocked. */
import { createTracker } from '/tracker.js'

const MODEL = 'openai/gpt-oss-20b'

// An application hands out a token for each of its users; here each browser makes one up.
const userToken = (localStorage.demoToken ??= `demo-user-${crypto.randomUUID()}`)
const weir = createTracker({ userToken, banner: true })

/** @param {string} id */
const byId = (id) => /** @type {any} */ (document.getElementById(id))
const number = new Intl.NumberFormat('en-US')
const count = (tokens, requests) =>
  `${number.format(tokens)} tokens in ${number.format(requests)} ${requests === 1 ? 'request' : 'requests'}`

weir.addEventListener('quota', (event) => {
  const { detail } = /** @type {CustomEvent} */ (event)
  const { tokensUsedDay, tokensReservedDay, tokensRemainingDay, requestsDay } = detail[MODEL] ?? {}
  byId('synced').textContent = new Date().toLocaleTimeString()
  // Nothing is said of models that were not used yet; nothing remains where there is no limit.
  if (tokensRemainingDay == null) return
  byId('used').textContent = count(tokensUsedDay, requestsDay)
  byId('reserved').textContent = number.format(tokensReservedDay) + ' tokens'
  byId('held').hidden = tokensReservedDay === 0
  byId('left').textContent = number.format(tokensRemainingDay)
  byId('meter').max = tokensUsedDay + tokensReservedDay + tokensRemainingDay
  byId('meter').value = tokensRemainingDay
})

weir.addEventListener('usage', (event) => {
  const { day } = /** @type {CustomEvent} */ (event).detail[MODEL] ?? {}
  if (day) byId('own').textContent = count(day.tokens, day.requests)
})

const midnight = new Date(new Date().setUTCHours(24, 0, 0, 0))
byId('reset').textContent = midnight.toLocaleTimeString([], { timeStyle: 'short' })

/** What was said, as the model wants it. */
const messages = []

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

/** @param {string} content */
async function ask(content) {
  messages.push({ role: 'user', content })
  say('user', content)
  const response = await weir.fetch('/api/groq/openai/v1/chat/completions', {
    method: 'POST',
    headers: { authorization: `Bearer ${userToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: MODEL, stream: true, messages }),
  })
  if (!response.ok) throw Error((await response.json()).error.message)
  const line = say('assistant', '')
  for await (const piece of pieces(response)) {
    line.textContent += piece
    scrollDown()
  }
  messages.push({ role: 'assistant', content: line.textContent })
}

byId('form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const [input, button] = [byId('text'), event.target.querySelector('button')]
  const text = input.value.trim()
  if (!text || button.disabled) return
  input.value = ''
  button.disabled = true
  byId('log').ariaBusy = 'true'
  try {
    await ask(text)
  } catch (error) {
    messages.pop()
    say('error', error instanceof Error ? error.message : 'That did not work.')
  }
  byId('log').ariaBusy = 'false'
  button.disabled = false
})

byId('another').addEventListener('click', () => {
  delete localStorage.demoToken
  location.reload()
})

/** A chat with a quota bar. In your application the token comes from your server: `userToken` may be a function. */
const MODEL = 'openai/gpt-oss-20b'
const byId = (id) => document.getElementById(id)
const { base } = await (await fetch('weir.json')).json()
const { createTracker } = await import(`${base}/tracker.js`)

const userToken = (localStorage.userToken ??= `example-${crypto.randomUUID()}`)
const weir = createTracker({ userToken, base, banner: '#banner' })

weir.addEventListener('quota', ({ detail }) => {
  const { tokensUsedDay, tokensReservedDay, tokensRemainingDay: left } = detail[MODEL] ?? {}
  if (left == null) return
  byId('bar').max = tokensUsedDay + tokensReservedDay + left
  byId('bar').value = left
  byId('left').textContent = `${left.toLocaleString()} tokens`
})

const messages = []

function say(text) {
  const line = document.createElement('p')
  line.textContent = text
  byId('log').append(line)
  return line
}

async function ask(content) {
  messages.push({ role: 'user', content })
  say(content)
  const answer = await weir.fetch(`${base}/api/groq/openai/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${userToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: MODEL, stream: true, messages }),
  })
  if (!answer.ok) throw new Error((await answer.json()).error.message)
  const line = say('')
  let rest = ''
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split('\n')
    rest = lines.pop()
    for (const one of lines.filter((text) => text.startsWith('data: {'))) {
      line.textContent += JSON.parse(one.slice(6)).choices[0]?.delta.content ?? ''
    }
  }
  messages.push({ role: 'assistant', content: line.textContent })
}

byId('form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const text = byId('text').value
  byId('text').value = ''
  try {
    await ask(text)
  } catch (error) {
    messages.pop()
    say(error.message)
    byId('text').value = text
  }
})

/** A streamed answer with `fetch` alone, and then what the user has left. */
const base = process.env.WEIR_URL ?? 'http://127.0.0.1:8787'
const headers = { authorization: 'Bearer user-of-the-example', 'content-type': 'application/json' }

const answer = await fetch(`${base}/api/groq/openai/v1/chat/completions`, {
  method: 'POST',
  headers,
  body: JSON.stringify({
    model: 'openai/gpt-oss-20b',
    stream: true,
    messages: [{ role: 'user', content: 'What is a weir?' }],
  }),
})
if (!answer.ok) throw new Error((await answer.json()).error.message)

let rest = ''
for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split('\n')
  rest = lines.pop()
  for (const line of lines) {
    if (!line.startsWith('data: {')) continue
    process.stdout.write(JSON.parse(line.slice(6)).choices[0]?.delta.content ?? '')
  }
}

const { limits } = await (await fetch(`${base}/api/usage`, { headers })).json()
console.log()
for (const { model, unit, window, used, reserved, limit } of limits) {
  console.log(`${model}: ${used} of ${limit} ${unit} a ${window} used, ${reserved} reserved`)
}

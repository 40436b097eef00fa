/** One user who sends as many requests as possible, for as long as the parent wants, whatever the answers are. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, request } from 'node:http'
import { answerParent, optionsOfParent } from './child.ts'

export type FloodQuestion = { inFlight: number }
/** Number of answers since the last question, by status. */
export type FloodAnswer = Record<string, number>

const { url, model } = optionsOfParent<{ url: string; model: string }>()
const agent = new Agent({ keepAlive: true })
const body = JSON.stringify({ model, messages: [{ role: 'user', content: 'more' }] })
const headers = { 'x-user-token': 'token-of-the-flood', 'content-length': body.length }
let wanted = 0
let running = 0
let answers: FloodAnswer = {}

const ask = () =>
  new Promise<number>((resolve) => {
    request(url, { agent, method: 'POST', headers }, (response) => {
      response.resume().once('close', () => resolve(response.statusCode ?? 0))
    })
      .once('error', () => resolve(0))
      .end(body)
  })

async function slot(): Promise<void> {
  running += 1
  while (running <= wanted) {
    const status = await ask()
    answers[status] = (answers[status] ?? 0) + 1
  }
  running -= 1
}

answerParent<FloodQuestion, FloodAnswer>(url, async ({ inFlight }) => {
  wanted = inFlight
  while (running < wanted) void slot()
  while (running > wanted) await sleep(1)
  const before = answers
  answers = {}
  return before
})

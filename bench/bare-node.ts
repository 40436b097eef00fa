/** The bare pass-through on Node: with `fetch`, or on the transport that Weir uses. */
import { serve } from '@hono/node-server'
import { nodeFetch } from '../src/platform/node/http.ts'
import { bareApp, type Send } from './bare.ts'
import { answerUsage, optionsOfParent, urlOf } from './child.ts'

const { upstream, isOwn } = optionsOfParent<{ upstream: string; isOwn: boolean }>()

const own: Send = async (url, init) => {
  const { signal } = new AbortController()
  const { status, headers, body } = await nodeFetch(url, { ...init, signal, redirect: 'manual' })
  const reader = body?.getReader()
  const stream = new ReadableStream({
    async pull(controller) {
      const read = await reader?.read()
      if (read?.value) controller.enqueue(read.value)
      else controller.close()
    },
  })
  return new Response(stream, { status, headers: [...headers] })
}

const { fetch } = bareApp({ upstream }, isOwn ? own : undefined)

serve({ fetch, port: 0, hostname: '127.0.0.1' }, (address) => answerUsage(urlOf(address)))

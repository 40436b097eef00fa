/** The database over the Upstash REST protocol, on Node's own transport. */
import type { Redis } from '@upstash/redis'
import { restClient, type RestOptions, type Send } from '../../store/redis/rest.ts'
import { nodeFetch, bodyText } from './http.ts'

const send: Send = async (url, { body, ...init }) => {
  const answer = await nodeFetch(url, { ...init, body: Buffer.from(body) })
  const { ok, headers } = answer
  return { ok, headers: { get: (name) => headers.get(name) ?? null }, text: () => bodyText(answer) }
}

/** Builds a client that sends each command once and gives up on a call after `timeoutMs`. */
export const restNodeClient = (options: RestOptions): Redis => restClient(options, send)

/** Unfinished work of a server: answers that are not sent yet, and background work. */
import type { ServerResponse } from 'node:http'

/** The time that a client has for the rest of its request after the server begins to stop. */
const UPLOAD_MS = 3000

/** Tracks answers. */
export function trackAnswers() {
  const running = new Set<ServerResponse>()
  let idle = () => {}
  let closing = false

  return {
    add(response: ServerResponse): void {
      running.add(response)
      if (closing) hurry(response)
      response.once('close', () => {
        running.delete(response)
        if (running.size === 0) idle()
      })
    },
    /** From now on, each answer closes its connection, and a client has `UPLOAD_MS` for the rest of its request. */
    hurry(): void {
      closing = true
      for (const response of running) hurry(response)
    },
    /** Resolves when no answer is running. */
    async done(): Promise<void> {
      if (running.size) await new Promise<void>((resolve) => (idle = resolve))
    },
  }
}

// A kept-alive connection would send further requests. After `server.close`, Node also has no time-out for a body that
// never arrives.
function hurry(response: ServerResponse): void {
  response.shouldKeepAlive = false
  const { req } = response
  setTimeout(() => req.complete || req.destroy(), UPLOAD_MS).unref()
}

/** Tracks work until it ends, with or without an error. */
export function trackWork() {
  const pending = new Set<Promise<unknown>>()

  return {
    waitUntil(promise: Promise<unknown>): void {
      const tracked = promise.catch(() => undefined).finally(() => pending.delete(tracked))
      pending.add(tracked)
    },
    /** Resolves when no work is left, including work that other work has begun. */
    async done(): Promise<void> {
      while (pending.size) await Promise.all(pending)
    },
  }
}

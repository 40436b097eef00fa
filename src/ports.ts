/** The types through which the app meets a platform: how it calls upstream, how it sends an answer, and where it runs. */

export type Bytes = Uint8Array<ArrayBuffer>

/** What is known of a body before it comes. */
export type Frame = {
  /** In bytes. */
  length?: number
  isEventStream: boolean
}

export type Pipe = {
  readable: ReadableStream<Bytes>
  writer: {
    write(chunk: Bytes): Promise<void>
    close(): Promise<void>
    /** Rejects when the client disconnects. */
    closed: Promise<unknown>
  }
  /** Breaks the answer off and ends a waiting write. */
  fail(error: unknown): void
}

/**
 * The part of `fetch` that the app needs; a platform may have a cheaper one. It follows no redirect, and undoes
 * the content codings that it knows.
 */
export type Fetch = (
  url: string,
  init: {
    method: 'GET' | 'POST'
    headers: Record<string, string>
    body: Bytes | null
    signal: AbortSignal
    redirect: 'manual'
  },
) => Promise<UpstreamAnswer>

/** The part of `Response` that the app needs. */
export type UpstreamAnswer = Pick<Response, 'status' | 'statusText' | 'ok'> & {
  headers: AnswerHeaders
  body: { getReader(): BodyReader; cancel(): Promise<void> } | null
}

/** Names are in lower case. A repeated header is one value. */
export type AnswerHeaders = Iterable<[string, string]> & {
  get(name: string): string | null | undefined
}

export type BodyReader = Pick<ReadableStreamDefaultReader<Bytes>, 'read' | 'cancel'>

/** How a platform gives the bodies of requests. */
export type BodyPlatform = {
  /** The most bytes of all bodies that are being read or sent on. */
  memory: number
  /**
   * Passes on the pieces of a body as they come, and then calls `end`, or `fail` if the body breaks off. The function
   * that it returns stops this. `env` is what the server gave the app beside the request.
   */
  read(
    request: Request,
    env: unknown,
    to: { piece(bytes: Bytes): void; end(): void; fail(): void },
  ): () => void
}

/** What the relay needs from a platform. */
export type RelayPlatform = {
  /** Makes a pipe to the client that sent a request; without one, to a reader of our own. */
  pipe(frame: Frame, client: Request | undefined): Pipe
  /** Headers that an answer needs to be streamed. */
  headers: Record<string, string>
  /** Whether `fetch` has undone this Content-Encoding. If not, the header stays with the bytes. */
  isDecoded(contentEncoding: string): boolean
  /** How far upstream is still read after the client has disconnected, to learn its exact usage. */
  drain: { ms: number; bytes: number; atOnce: number }
}

/** Where the app runs and keeps its counts. */
export type Environment = {
  platform: 'vercel' | 'workerd' | 'node'
  storage: 'database' | 'file' | 'none'
}

/** A request, in the gateway's terms. */
export type Incoming = {
  /** The id of the request, of its lease and of its event. */
  id: string
  request: Request
  /** We read the answer ourselves, to make another of it. */
  isForUs: boolean
  /** What the caller says that the request is for. */
  tag: string | undefined
  /** Keeps the instance alive until a promise has ended. */
  waitUntil(work: Promise<unknown>): void
}

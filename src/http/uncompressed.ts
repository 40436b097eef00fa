/** Refuses compressed bodies. */
import type { Context } from 'hono'
import { ApiError } from '../errors.ts'

/** Throws `unsupported_encoding` if a header says that the body is compressed or encoded. */
export function uncompressed(c: Context): void {
  const encoding = c.req.header('content-encoding')
  if (encoding === undefined || /^[\s,]*(identity[\s,]*)*$/i.test(encoding)) return
  throw new ApiError(
    'unsupported_encoding',
    'Send the body uncompressed: without a Content-Encoding, or with `identity`.',
    { headers: { 'accept-encoding': 'identity' } },
  )
}

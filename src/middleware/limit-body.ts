/** Refuses a body of more bytes than allowed, with or without a Content-Length. */
import { bodyLimit } from 'hono/body-limit'
import { ApiError } from '../errors.ts'

/** Middleware that answers `body_too_large` for more than `maxSize` bytes. */
export const limitBody = (maxSize: number) =>
  bodyLimit({
    maxSize,
    onError: () => {
      throw new ApiError('body_too_large', `The body may have at most ${maxSize} bytes.`)
    },
  })

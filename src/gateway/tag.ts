/** The tag of a request, `x-weir-tag`: what the caller says that it is for. It is counted, and never sent upstream. */
import { ApiError } from '../errors.ts'

export const TAG = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,31}$/

/** The tag of a request, if it has one. Throws `invalid_request`. */
export function tagOf(header: string | undefined): string | undefined {
  const tag = header?.trim()
  if (!tag) return undefined
  if (TAG.test(tag)) return tag
  throw new ApiError(
    'invalid_request',
    'The header x-weir-tag must have 1 to 32 characters: letters, digits and . _ : / - with a letter or a digit in front.',
    { param: 'x-weir-tag' },
  )
}

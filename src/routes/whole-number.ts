/** Numbers in the query of a URL. */
import * as z from 'zod/mini'

/** Text that is a whole number from 1 to `most`, without zeros in front. zod's coercion would take four times its bytes. */
export const wholeNumber = (most: number) =>
  z.string().check(z.refine((text) => /^[1-9]\d{0,8}$/.test(text) && Number(text) <= most))

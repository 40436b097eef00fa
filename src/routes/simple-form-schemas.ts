/** The simple form, and the part of a chat answer that it needs. */
import * as z from 'zod/mini'

export const simpleForm = z.strictObject({
  prompt: z.string().check(z.minLength(1)),
  model: z.optional(z.string()),
  temperature: z.optional(z.number()),
  max_tokens: z.optional(z.int().check(z.minimum(1))),
  top_p: z.optional(z.number()),
  frequency_penalty: z.optional(z.number()),
  presence_penalty: z.optional(z.number()),
  userToken: z.optional(z.string()),
})

/** The fields of the provider's answer that the simple answer needs. */
export const chatAnswer = z.object({
  model: z.string(),
  choices: z.array(z.object({ message: z.object({ content: z.nullish(z.string()) }) })),
  usage: z.optional(
    z.object({
      prompt_tokens: z.number(),
      completion_tokens: z.number(),
      total_tokens: z.number(),
    }),
  ),
})

/** The part of the provider's list of models that is read here. */
import * as z from 'zod/mini'

export const providerModels = z.object({ data: z.array(z.object({ id: z.string() })) })

/** Names of models, and which of them are offered. */
import { ALL_MODELS } from '../ledger/documents.ts'

/**
 * A model name becomes part of keys and log lines. LoRA models have colons in theirs, as in ft:BASE:ORG/NAME:
 * https://console.groq.com/docs/lora
 */
export const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/

/** Whether a text names one model, or all of them. */
export const isScope = (name: string): boolean => name === ALL_MODELS || MODEL_NAME.test(name)

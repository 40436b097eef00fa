/** Structured log lines: JSON for machines, one readable line for people. Never a token, key, prompt or answer. */
import type { LogLevel } from './config.ts'

type Fields = Record<string, unknown>

export type Log = Record<
  'debug' | 'info' | 'warn' | 'error',
  (event: string, fields?: Fields) => void
>

const LEVELS: LogLevel[] = ['debug', 'info', 'warn', 'error', 'silent']

export type LogOptions = {
  level: LogLevel
  format: 'json' | 'text'
  /** Takes a whole line without its end. */
  write(line: string): void
}

/** Builds a log that drops what is below its level. Errors among the fields are told by name, message and causes. */
export function createLog({ level, format, write }: LogOptions): Log {
  const lowest = LEVELS.indexOf(level)
  const at = (name: keyof Log) => {
    if (LEVELS.indexOf(name) < lowest) return () => undefined
    return (event: string, fields: Fields = {}) => {
      const plain = Object.fromEntries(
        Object.entries(fields).map(([key, value]) => [
          key,
          value instanceof Error ? describe(value) : value,
        ]),
      )
      const time = new Date().toISOString()
      if (format === 'json') {
        // Not `event`, which is what usage is called among the fields.
        return write(inOneLine({ time, level: name, msg: event, ...plain }))
      }
      const details = Object.entries(plain).map(([key, value]) => ` ${key}=${inOneLine(value)}`)
      write(`${time.slice(11, 19)} ${name.padEnd(5)} ${event}${details.join('')}`)
    }
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

/** As JSON, of which terminals obey nothing and readers of lines see one: JSON itself escapes only what is below U+0020. */
const inOneLine = (value: unknown): string =>
  `${JSON.stringify(value)}`.replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )

/** Causes may go in a circle, and the first few say enough. */
function describe(error: Error, causes = 4): string {
  const { name, message, cause } = error
  const more =
    cause instanceof Error && causes > 0 ? `; caused by ${describe(cause, causes - 1)}` : ''
  return `${name}: ${message}${more}`
}

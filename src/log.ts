/**
 * Structured log lines: JSON for machines, or one readable line for people. They never hold a token, key, prompt or
 * answer.
 */

type Fields = Record<string, unknown>

export type Log = Record<
  'debug' | 'info' | 'warn' | 'error',
  (event: string, fields?: Fields) => void
>

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'

const LEVELS: LogLevel[] = ['debug', 'info', 'warn', 'error', 'silent']

export type LogOptions = {
  level: LogLevel
  format: 'json' | 'text'
  /** Takes a whole line without its line break. */
  write(line: string): void
}

/** Builds a log that drops entries below its level. Errors among the fields are written as name, message and causes. */
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
        return write(inOneLine({ time, level: name, msg: event, ...plain }))
      }
      write(inWords(time, name, event, plain))
    }
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

/** An entry as one line for people. */
export function inWords(time: string, level: string, event: string, fields: Fields): string {
  const details = Object.entries(fields).map(([key, value]) =>
    value === undefined ? '' : ` ${key}=${inOneLine(value)}`,
  )
  return `${time.slice(11, 19)} ${level.padEnd(5)} ${event}${details.join('')}`
}

/** JSON on one line, without characters that control a terminal. JSON itself escapes only characters below U+0020. */
const inOneLine = (value: unknown): string =>
  `${JSON.stringify(value)}`.replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )

/** Causes may be circular, and the first few are enough. */
function describe(error: Error, causes = 4): string {
  const { name, message, cause } = error
  const more =
    cause instanceof Error && causes > 0 ? `; caused by ${describe(cause, causes - 1)}` : ''
  return `${name}: ${message}${more}`
}

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
      if (format === 'json') return write(JSON.stringify({ time, level: name, event, ...plain }))
      const details = Object.entries(plain).map(
        ([key, value]) => ` ${key}=${JSON.stringify(value)}`,
      )
      write(`${time.slice(11, 19)} ${name.padEnd(5)} ${event}${details.join('')}`)
    }
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

function describe(error: Error): string {
  const cause = error.cause instanceof Error ? `; caused by ${describe(error.cause)}` : ''
  return `${error.name}: ${error.message}${cause}`
}

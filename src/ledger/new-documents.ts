/** Documents in which nothing is counted or set. */
import type {
  UsageDoc,
  PastDoc,
  ProfileDoc,
  SettingsDoc,
  QuotaDoc,
  Row,
  DayRow,
  DayDoc,
} from './documents.ts'
import { VERSIONS } from './shapes.ts'
import { dateOf } from './windows.ts'

/** A user without any use. */
export const newUsage = (id: string, now: number): UsageDoc => ({
  v: VERSIONS.usage,
  id,
  since: now,
  at: now,
  indexed: { at: 0, tokens: 0 },
  date: dateOf(now),
  charged: 0,
  answered: 0,
  sessions: {},
  windows: {},
  models: {},
  leases: {},
  reported: {},
})

export const newPast = (id: string): PastDoc => ({ v: VERSIONS.past, id, days: {} })

export const newProfile = (id: string): ProfileDoc => ({
  v: VERSIONS.profile,
  id,
  blocks: {},
  limits: {},
  keys: {},
})

export const newSettings = (): SettingsDoc => ({ v: VERSIONS.settings, plans: {} })

export const newQuota = (at: number): QuotaDoc => ({ v: VERSIONS.quota, at, windows: {} })

/** A row without any use. */
export const newRow = (): Row => ({
  requests: 0,
  exact: 0,
  estimated: 0,
  failed: 0,
  lost: 0,
  charged: 0,
  reserved: 0,
  lostTokens: 0,
  prompt: 0,
  cached: 0,
  completion: 0,
  overReservation: 0,
  cost: 0,
  reservedCost: 0,
  lostCost: 0,
  audioMs: 0,
  reservedAudioMs: 0,
  lostAudioMs: 0,
  characters: 0,
  reservedCharacters: 0,
  lostCharacters: 0,
})

/** A day without any use, of one model or of all. */
export const newDayRow = (): DayRow => ({
  requests: 0,
  exact: 0,
  estimated: 0,
  failed: 0,
  charged: 0,
  prompt: 0,
  cached: 0,
  completion: 0,
  overReservation: 0,
  cost: 0,
  users: 0,
  hours: {},
  at: 0,
})

/** A day on which nothing has happened. */
export const newDay = (date: string): DayDoc => ({
  v: VERSIONS.day,
  date,
  total: newDayRow(),
  sessions: 0,
  models: {},
  forgotten: 0,
})

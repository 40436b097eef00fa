/** The path of the Chromium for tests and screenshots. */
import { existsSync } from 'node:fs'

/** The headless build comes first: it takes half the time. */
const PLACES = ['/usr/bin/chromium-headless-shell', '/usr/bin/chromium']

export const chromiumPath = (): string => process.env.CHROMIUM ?? PLACES.find(existsSync) ?? ''

/** Where the Chromium is that tests and pictures are made with. */
import { existsSync } from 'node:fs'

/** The same browser without its windows comes first: it takes half the time. */
const PLACES = ['/usr/bin/chromium-headless-shell', '/usr/bin/chromium']

export const chromiumPath = (): string => process.env.CHROMIUM ?? PLACES.find(existsSync) ?? ''

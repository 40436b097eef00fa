/** The health check of the container: ends with 0 if model calls are served, with 1 if they are not. */
const { PORT, BASE_PATH, HOST } = process.env
const host = !HOST || HOST === '0.0.0.0' || HOST === '::' ? '127.0.0.1' : HOST
const path = `${BASE_PATH ?? ''}/api/health`.replace(/\/+/g, '/')
try {
  const { ok, status } = await fetch(`http://${host}:${PORT || 8787}${path}`)
  if (!ok) console.error(`/api/health answers ${status}.`)
  process.exitCode = ok ? 0 : 1
} catch (error) {
  console.error(`/api/health does not answer: ${error.cause?.code ?? error.message}`)
  process.exitCode = 1
}

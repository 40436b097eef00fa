/** Multipart bodies for tests, byte by byte. */
export type Field = {
  name: string
  value: string | Uint8Array
  filename?: string
  headers?: string
}

export const BOUNDARY = 'boundary-of-the-tests'
export const FORM_TYPE = `multipart/form-data; boundary=${BOUNDARY}`

/** The body of some fields, in their order. */
export function formOf(fields: Field[], boundary = BOUNDARY): Uint8Array<ArrayBuffer> {
  const parts = fields.flatMap(({ name, value, filename, headers = '' }) => {
    const file = filename === undefined ? '' : `; filename="${filename}"`
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="${name}"${file}\r\n${headers}\r\n`
    return [Buffer.from(head), Buffer.from(value as string), Buffer.from('\r\n')]
  })
  return new Uint8Array(Buffer.concat([...parts, Buffer.from(`--${boundary}--\r\n`)]))
}

/** The text of the file, from the `text` loader in scripts/bundle.ts. */
declare module '*.lua' {
  const text: string
  export default text
}

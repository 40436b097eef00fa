/** The reference of the API as a page, made from the OpenAPI document: static, without scripts, and with all texts escaped. */
import type { Child } from 'hono/jsx'

type Schema = {
  $ref?: string
  type?: string | string[]
  description?: string
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  enum?: unknown[]
  const?: unknown
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
  additionalProperties?: Schema | boolean
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
}
type Content = { content?: Record<string, { schema?: Schema }> }
type Parameter = {
  $ref?: string
  name: string
  in: string
  required?: boolean
  description?: string
  schema?: Schema
}
type Answer = Content & { $ref?: string; description?: string }
type Operation = {
  tags: string[]
  summary: string
  description?: string
  operationId: string
  security?: Record<string, unknown>[]
  parameters?: Parameter[]
  requestBody?: Content
  responses: Record<string, Answer>
}
/** The parts of the document that the page shows. */
export type Reference = {
  info: { title: string; version: string; description: string }
  tags: { name: string; description: string }[]
  paths: Record<string, Record<string, Operation>>
  components: {
    schemas: Record<string, Schema>
    parameters: Record<string, Parameter>
    responses: Record<string, Answer>
  }
}

/** Markdown's `code` and **bold** are all that descriptions use. */
const inline = (text = '') =>
  text
    .split(/(`[^`]+`|\*\*[^*]+\*\*)/)
    .map((part) =>
      part.startsWith('`') ? (
        <code>{part.slice(1, -1)}</code>
      ) : part.startsWith('**') ? (
        <b>{part.slice(2, -2)}</b>
      ) : (
        part
      ),
    )

const nameOf = (ref: string) => ref.split('/').at(-1) ?? ''
const anchorOf = (schema: string) => `schema-${schema}`

/** A type in a few words. Schemas with a name are links. */
function typeOf(schema: Schema = {}): Child {
  const { $ref, type, items, enum: values, const: only, anyOf, oneOf, allOf } = schema
  if ($ref) return <a href={`#${anchorOf(nameOf($ref))}`}>{nameOf($ref)}</a>
  const several = anyOf ?? oneOf ?? allOf
  if (several)
    return several.map((one, index) => (
      <>
        {index > 0 && ' | '}
        {typeOf(one)}
      </>
    ))
  if (values) return values.map((value) => JSON.stringify(value)).join(' | ')
  if (only !== undefined) return JSON.stringify(only)
  if (type === 'array') return <>list of {typeOf(items)}</>
  const named = Array.isArray(type) ? type.join(' | ') : (type ?? 'any')
  const limits = [
    schema.minimum !== undefined && `at least ${schema.minimum}`,
    schema.maximum !== undefined && schema.maximum < 2 ** 53 - 1 && `at most ${schema.maximum}`,
    schema.minLength !== undefined && `at least ${schema.minLength} characters`,
    schema.maxLength !== undefined && `at most ${schema.maxLength} characters`,
  ].filter(Boolean)
  return limits.length > 0 ? `${named}, ${limits.join(', ')}` : named
}

type Row = { name: string; schema: Schema; isRequired: boolean; told?: string | undefined }

/** The fields of an object, also of the objects inside of it, as paths. */
function rowsOf({ properties = {}, required = [], items }: Schema, before = ''): Row[] {
  return Object.entries(properties)
    .flatMap(([name, schema]) => {
      const path = `${before}${name}`
      const inner = schema.type === 'array' ? (schema.items ?? {}) : schema
      return [
        { name: path, schema, isRequired: required.includes(name), told: schema.description },
        ...rowsOf(inner, schema.type === 'array' ? `${path}[].` : `${path}.`),
      ]
    })
    .concat(items && !before ? rowsOf(items, '[].') : [])
}

const Fields = ({ rows }: { rows: Row[] }) =>
  rows.length === 0 ? (
    <></>
  ) : (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th>name</th>
            <th>type</th>
            <th>meaning</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(({ name, schema, isRequired, told }) => (
            <tr>
              <td>
                <code>{name}</code>
                {isRequired && <small> required</small>}
              </td>
              <td>{typeOf(schema)}</td>
              <td>{inline(told)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )

const contentOf = ({ content = {} }: Content) =>
  Object.entries(content).map(([type, { schema }]) => (
    <p>
      <code>{type}</code>: {typeOf(schema)}
    </p>
  ))

/** The page. */
export function referencePage(document: Reference): string {
  const { info, tags, paths, components } = document
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, ...operation })),
  )
  const parameterOf = (one: Parameter) =>
    one.$ref ? (components.parameters[nameOf(one.$ref)] ?? one) : one
  const answerOf = (one: Answer) =>
    one.$ref ? (components.responses[nameOf(one.$ref)] ?? one) : one

  const page = (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width" />
        <meta name="color-scheme" content="light dark" />
        <meta
          http-equiv="content-security-policy"
          content="default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"
        />
        <title>{`${info.title}: reference of the API`}</title>
        <link rel="stylesheet" href="reference.css" />
        <link rel="icon" href="favicon.svg" />
      </head>
      <body>
        <nav aria-label="Contents">
          <a href="./">Home</a>
          {tags.map(({ name }) => (
            <details open>
              <summary>{name}</summary>
              {operations
                .filter((one) => one.tags.includes(name))
                .map(({ operationId, summary }) => (
                  <a href={`#${operationId}`}>{summary}</a>
                ))}
            </details>
          ))}
          <a href="#schemas">Schemas</a>
        </nav>
        <main>
          <h1>
            {info.title} {info.version}: reference of the API
          </h1>
          {info.description.split('\n\n').map((part) => (
            <p>{inline(part)}</p>
          ))}
          <p>
            Made from <a href="api/openapi.json">the OpenAPI document</a>.
          </p>
          {tags.map((tag) => (
            <section>
              <h2>{tag.name}</h2>
              <p>{inline(tag.description)}</p>
              {operations
                .filter((one) => one.tags.includes(tag.name))
                .map((one) => (
                  <article id={one.operationId}>
                    <h3>
                      <a href={`#${one.operationId}`}>{one.summary}</a>
                    </h3>
                    <p class="route">
                      <b>{one.method.toUpperCase()}</b> <code>{one.path}</code>
                    </p>
                    {one.description && <p>{inline(one.description)}</p>}
                    <Fields
                      rows={(one.parameters ?? []).map(parameterOf).map((parameter) => ({
                        name: parameter.name,
                        schema: parameter.schema ?? {},
                        isRequired: parameter.required ?? false,
                        told: `In the ${parameter.in}. ${parameter.description ?? ''}`,
                      }))}
                    />
                    {one.requestBody && (
                      <>
                        <h4>Body</h4>
                        {contentOf(one.requestBody)}
                      </>
                    )}
                    <h4>Answers</h4>
                    <dl>
                      {Object.entries(one.responses).map(([status, answer]) => (
                        <>
                          <dt>{status}</dt>
                          <dd>
                            {inline(answerOf(answer).description)}
                            {contentOf(answerOf(answer))}
                          </dd>
                        </>
                      ))}
                    </dl>
                  </article>
                ))}
            </section>
          ))}
          <h2 id="schemas">Schemas</h2>
          {Object.entries(components.schemas).map(([name, schema]) => (
            <article id={anchorOf(name)}>
              <h3>{name}</h3>
              {schema.description && <p>{inline(schema.description)}</p>}
              {rowsOf(schema).length > 0 ? (
                <Fields rows={rowsOf(schema)} />
              ) : (
                <p>{typeOf(schema)}</p>
              )}
            </article>
          ))}
        </main>
      </body>
    </html>
  )
  return `<!doctype html>\n${String(page)}\n`
}

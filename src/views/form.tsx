/** Forms that show what was typed again if it was refused. */
import { createContext, useContext, type Child, type JSX } from 'hono/jsx'
import { AdminsOnly } from './admins-only.tsx'

/** The fields of a form, by name. */
export type Fields = Record<string, string | undefined>

/** The form that is open: which one, and if it was refused, what was typed, what is wrong, and in which field. */
export type Refused = { form: string; typed?: Fields; problem?: string; field?: string }

type FormProps = {
  /** Tells the forms of a page apart. */
  form: string
  action: string
  /** What is stored. */
  values: Fields
  refused: Refused | undefined
  button: string
  /** A form of one button, or one with a risk. */
  kind?: 'quiet' | 'danger'
  fields?: (values: Fields) => Child
}

/** A form in a part of the page that is closed until somebody opens it, or until it is refused. */
export const closedForm = (props: FormProps & { title: string }) => (
  <AdminsOnly>
    <details class="form" open={props.refused?.form === props.form}>
      <summary>{props.title}</summary>
      {openForm(props)}
    </details>
  </AdminsOnly>
)

export const openForm = ({ form, action, values, refused, button, kind, fields }: FormProps) => {
  const own = refused?.form === form ? refused : undefined
  return (
    <AdminsOnly>
      <form method="post" action={action} class="fields">
        {own?.problem && (
          <p id="problem" class="error wide" role="alert">
            <bdi>{own.problem}</bdi>
          </p>
        )}
        <WrongField.Provider value={own?.field}>
          {fields?.(own?.typed ?? values)}
        </WrongField.Provider>
        <button class={kind}>{button}</button>
      </form>
    </AdminsOnly>
  )
}

const WrongField = createContext<string | undefined>(undefined)

/** Marks a field of a form that was refused because of it, and gives it the focus. */
const marked = (name: string | undefined) =>
  useContext(WrongField) === name && name !== undefined
    ? { 'aria-invalid': 'true' as const, 'aria-describedby': 'problem', autofocus: true }
    : {}

/** A field, marked if the form was refused because of it. */
export const Input = (props: JSX.IntrinsicElements['input']) => (
  <input autocomplete="off" {...props} {...marked(props.name)} />
)

export const TextArea = ({ children, ...props }: JSX.IntrinsicElements['textarea']) => (
  <textarea rows={3} {...props} {...marked(props.name)}>
    {children}
  </textarea>
)

/** A choice: what is sent, and what is shown. */
export type Choice = readonly [value: string, words: string]

export const select = (name: string, choices: readonly Choice[], chosen: string | undefined) => (
  <select name={name}>
    {choices.map(([value, words]) => (
      <option value={value} selected={value === chosen}>
        {words}
      </option>
    ))}
  </select>
)

/** The value of a field for a time, in UTC, to the minute. */
export const timeField = (at: number | null): string =>
  at === null ? '' : new Date(at).toISOString().slice(0, 16)

const ALL = 'all'
export const THESE = 'these'

/** The values of the fields for a list of models; null is all models. */
export const modelFields = (models: string[] | null): Fields => ({
  which: models ? THESE : ALL,
  models: models?.join('\n') ?? '',
})

/** The fields for a list of models. */
export const modelList = ({ which, models }: Fields) => (
  <>
    <label>
      May call
      {select(
        'which',
        [
          [ALL, 'all models'],
          [THESE, 'only these models'],
        ],
        which,
      )}
    </label>
    <label class="wide">
      Models, one a line; * stands for any characters
      <TextArea name="models" spellcheck={false} placeholder=" ">
        {models}
      </TextArea>
    </label>
  </>
)

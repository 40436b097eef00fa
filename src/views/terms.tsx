/** The words of the dashboard, each explained where it stands: a button opens the explanation, also without scripts. */

const TERMS = {
  outcome: [
    'Outcome',
    'How an admitted request ended: exact, estimated or failed. One that never ended is lost: its user’s page counts it.',
  ],
  exact: ['Exact', 'The model reported what it used, and the answer ended. That is charged.'],
  estimated: [
    'Estimated',
    'The answer had no readable usage, or was cut. What arrived is charged, at most the reservation.',
  ],
  failed: [
    'Failed',
    'The model answered with an error or could not be reached. Nothing is charged.',
  ],
  running: ['Running', 'Admitted, and not ended yet. The reservation is charged meanwhile.'],
  refused: [
    'Refused',
    'Not admitted: it would pass a limit, the user is blocked, or the key is not valid. The model was not called.',
  ],
  reservation: [
    'Reservation',
    'What a request may cost at most. It is charged before the model is called, and replaced when the request ends.',
  ],
  cost: [
    'Cost',
    'US dollars at the prices that held when it was charged. Models without a price are not in it.',
  ],
  limit: [
    'Limit used',
    'The used share of the limit that is nearest to its end, of a day or longer.',
  ],
  firstByte: [
    'First byte',
    'The time from the call to the model until its first byte. Half of the requests waited at most p50, 95 of 100 at most p95.',
  ],
  failures: [
    'Failed',
    'Requests of today that the model answered with an error. They cost nothing.',
  ],
  reported: [
    'Reported',
    'The tokens of today that the user’s browser reported. It is marked where it is far from what the gateway counted. Only the gateway’s count is charged.',
  ],
} as const

export type Term = keyof typeof TERMS

/** A button that explains a term. */
export const help = (term: Term) => (
  <button
    type="button"
    class="help"
    popovertarget={`term-${term}`}
    aria-label={`What is “${TERMS[term][0]}”?`}
  >
    ?
  </button>
)

/** The explanations, which every page has. */
export const Glossary = () => (
  <div class="terms">
    {Object.entries(TERMS).map(([id, [title, text]]) => (
      <div popover="auto" id={`term-${id}`} class="term">
        <b>{title}</b>
        <p>{text}</p>
      </div>
    ))}
  </div>
)

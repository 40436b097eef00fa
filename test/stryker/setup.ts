/**
 * Leaves out the tests of other stores and of workerd, which no mutant gets into, and those that take seconds: processes of
 * their own, races, long histories. Draws the same inputs each time, and shrinks none.
 */
import fc from 'fast-check'
import { beforeEach } from 'vitest'

const LEFT_OUT = [
  /^redis|^turns > (?!local)|^on (node|workerd) >|in Redis|the edge renders/,
  /kill -9|processes that open|a second process|a last line that was cut|whatever happens to calls/,
]

fc.configureGlobal({ seed: 1, endOnFailure: true })

beforeEach(({ task, skip }) => {
  if (LEFT_OUT.some((name) => name.test(task.fullTestName))) skip()
})

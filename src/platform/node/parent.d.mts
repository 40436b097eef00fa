/** The types of parent.mjs. */
export const PARENT: number

export const PARENT: number

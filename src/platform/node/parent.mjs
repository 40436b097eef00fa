/**
 * The process that started this one, read before anything else is loaded: if that process ends while this one loads, Node
 * already names another one.
 */
export const PARENT = process.ppid

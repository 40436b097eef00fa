/** The oxlint rule `weir/rooms`: a file of src/ imports from its own room and from those below, types included. */
import { dirname, relative, resolve, sep } from 'node:path'

const OUTSIDE = ['test', 'scripts', 'bench']

const create = (context) => {
  const inProject = (path) => relative(context.cwd, path).split(sep)
  const [top, own] = inProject(context.filename)
  if (top !== 'src') return {}

  const floors = context.options.map((rooms) => rooms.split(' '))
  const floorOf = (room) => floors.findIndex((rooms) => rooms.includes(room))

  const check = (node) => {
    const specifier = node?.value
    if (typeof specifier !== 'string' || !specifier.startsWith('.')) return
    const [folder, room] = inProject(resolve(dirname(context.filename), specifier))
    const report = (message) => context.report({ node, message })
    if (OUTSIDE.includes(folder)) report(`src may not import from ${folder}.`)
    if (folder !== 'src') return
    if (floorOf(room) === -1) report(`The order of the rooms does not list ${room}.`)
    else if (floorOf(room) < floorOf(own))
      report(`${own} may not import from ${room}, which is above it.`)
  }

  return {
    Program(node) {
      if (floorOf(own) === -1)
        context.report({ node, message: `The order of the rooms does not list ${own}.` })
    },
    ImportDeclaration: ({ source }) => check(source),
    ExportNamedDeclaration: ({ source }) => check(source),
    ExportAllDeclaration: ({ source }) => check(source),
    ImportExpression: ({ source }) => check(source),
    TSImportType: ({ source }) => check(source),
  }
}

export default {
  meta: { name: 'weir' },
  rules: { rooms: { meta: { schema: false }, create } },
}

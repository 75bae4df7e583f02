/**
 * The floor plan of src/ as data, and the rules for dependency-cruiser that follow from it. Imports run downwards only,
 * imports of types too: who reads a room never has to know those above it.
 */
import typescript from 'typescript'

/** From the bottom up. Rooms of one line are neighbours. A room is a folder of src/, a file, or a file with its folder. */
const FLOORS = [
  ['util'], // clock, errors
  ['wire'],
  ['backend'],
  ['cluster'],
  ['stream'],
  ['session'],
  ['http'],
  ['options'],
  ['assemble'],
  ['handler', 'transport', 'event-store'],
  ['index'],
  ['cli'],
]

/** Rooms outside of the order: all that they may import, and nobody imports them. */
const ANNEXES = { testing: ['util', 'wire', 'backend'] }

/** Rooms that know nothing of each other; only what is named here opens them. */
const DRIVERS = { rooms: ['backend/sqlite', 'backend/redis', 'backend/postgres'], openedBy: 'cli' }

/** Rooms that import no neighbour. */
const ALONE = { 'backend/backend': 'backend' }

/** Rooms that import nothing at all, not even of Node. */
const BARE = ['util']

/** The only packages that are imported, and where; of Node's modules, those with a place of their own. */
const PACKAGES = {
  commander: 'cli',
  jose: 'cli',
  'rate-limiter-flexible': 'cli/serve',
  'node:child_process': 'cli',
  'node:cluster': 'cli',
  'better-sqlite3': 'backend/sqlite',
  ioredis: 'backend/redis',
  redis: 'backend/redis',
  pg: 'backend/postgres',
  postgres: 'backend/postgres',
}

/** Without a parser for TypeScript dependency-cruiser finds no imports, and no fault. */
if (!typescript.createSourceFile) throw new Error('the package `typescript` has no compiler API: see CONTRIBUTING.md')

/** Files of these rooms, as dependency-cruiser wants it. */
const files = (...rooms) => `^src/(${rooms.join('|')})(/|\\.ts$)`
/** Modules of packages, wherever they or their types are installed, and modules of Node. */
const modules = (...names) => `(^|node_modules/)(@types/)?(${names.join('|').replaceAll('node:', '')})(/|$)`
const rule = (name, comment, from, to) => ({ name, comment, severity: 'error', from, to })

const ROOMS = [...FLOORS.flat(), ...Object.keys(ANNEXES)]

export default {
  forbidden: [
    rule('no-circles', 'Files that import each other can only be read together.', {}, { circular: true }),
    {
      name: 'has-a-room',
      comment: 'Each file has its place in FLOORS.',
      severity: 'error',
      from: {},
      // the count makes it a rule about files; no file has as many importers
      module: { path: '^src/', pathNot: files(...ROOMS), numberOfDependentsLessThan: 100 },
    },
    rule('found', 'What is imported is there.', {}, { couldNotResolve: true }),

    ...FLOORS.slice(0, -1).map((floor, at) =>
      rule(
        `${floor[0]}-imports-down`,
        `Above it: ${FLOORS.slice(at + 1)
          .flat()
          .join(', ')}.`,
        { path: files(...floor) },
        { path: files(...FLOORS.slice(at + 1).flat()) },
      ),
    ),
    ...Object.entries(ANNEXES).flatMap(([room, below]) => [
      rule(
        `${room}-imports`,
        `Only ${below.join(', ')}.`,
        { path: files(room) },
        { path: '^src/', pathNot: files(room, ...below) },
      ),
      rule(`${room}-is-apart`, 'It is for users.', { path: '^src/', pathNot: files(room) }, { path: files(room) }),
    ]),
    ...DRIVERS.rooms.map((room) =>
      rule(
        `${room}-is-apart`,
        `The core never knows which backend it holds; only ${DRIVERS.openedBy} opens one.`,
        { path: '^src/', pathNot: files(room, DRIVERS.openedBy) },
        { path: files(room) },
      ),
    ),
    ...Object.entries(ALONE).map(([room, within]) =>
      rule(`${room}-is-alone`, 'It is the contract of all beside it.', { path: files(room) }, { path: files(within) }),
    ),
    ...BARE.map((room) =>
      rule(`${room}-is-bare`, 'It imports nothing.', { path: files(room) }, { pathNot: files(room) }),
    ),
    ...Object.entries(PACKAGES).map(([name, room]) =>
      rule(`${name}-in-${room}`, 'Only there.', { path: '^src/', pathNot: files(room) }, { path: modules(name) }),
    ),
    rule(
      'no-other-package',
      'A new one is named in PACKAGES.',
      { path: '^src/' },
      { path: 'node_modules', pathNot: modules(...Object.keys(PACKAGES)) },
    ),
  ],
  options: {
    // imports of types, too
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['types', 'import', 'node', 'default'] },
  },
}

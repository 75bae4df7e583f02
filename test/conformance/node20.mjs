/**
 * Lets Node 20 run the official conformance runner (`node --import ./node20.mjs …`). The runner imports one function that
 * `fs` has only had since Node 22, for a subcommand that has nothing to do with testing servers; importing a name that does
 * not exist fails the whole program. So `fs` gets that name, and nothing else is changed.
 */
import * as fs from 'node:fs'
import { register } from 'node:module'

if (!('globSync' in fs)) {
  const patchedFs = asModule(`
    export * from 'node:fs'
    export { default } from 'node:fs'
    export function globSync() { throw new Error('fs.globSync needs Node 22') }
  `)
  register(
    asModule(`
      export function resolve(specifier, context, next) {
        return specifier === 'fs' ? { url: ${JSON.stringify(patchedFs)}, shortCircuit: true } : next(specifier, context)
      }
    `),
  )
}

function asModule(source) {
  return `data:text/javascript,${encodeURIComponent(source)}`
}

/** Copies dist/ to a folder, with each function saying which file it is in when it is called: `globalThis.visited(file)`. */
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parse } from 'acorn'
import { full } from 'acorn-walk'

/** @param {string} dist @param {string} folder */
export function instrument(dist, folder) {
  cpSync(dist, folder, { recursive: true })
  for (const entry of readdirSync(folder, { recursive: true })) {
    const file = join(folder, String(entry))
    if (!file.endsWith('.js')) continue
    const name = relative(folder, file).replaceAll('\\', '/').replace(/\.js$/, '.ts')
    writeFileSync(file, instrumented(readFileSync(file, 'utf8'), `src/${name}`))
  }
}

function instrumented(source, name) {
  const call = `globalThis.visited?.(${JSON.stringify(name)});`
  /** @type {number[]} */
  const positions = []
  full(parse(source, { ecmaVersion: 'latest', sourceType: 'module' }), (node) => {
    if (/Function/.test(node.type) && node.body.type === 'BlockStatement') positions.push(node.body.start + 1)
  })
  let text = source
  for (const position of positions.sort((one, other) => other - one)) {
    text = text.slice(0, position) + call + text.slice(position)
  }
  return text
}

// Makes sessions.svg of sessions.dot and style.css. Needs Graphviz's `dot` (Debian and Homebrew: graphviz).
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'

const read = (name) => readFileSync(new URL(name, import.meta.url), 'utf8')
const graph = read('sessions.dot')
const style = read('style.css')
const drawn = execFileSync('dot', ['-Tsvg'], { input: graph, encoding: 'utf8' })

const [title] = /<title>.*<\/title>/.exec(drawn)
// So that a test can tell, without Graphviz, that the picture was not made again after a change of its sources.
const sources = createHash('sha256').update(graph).update(style).digest('hex')
const svg = drawn
  .slice(drawn.indexOf('<svg'))
  .replace(/<!--[\s\S]*?-->\n/g, '')
  .replace(/<title>.*<\/title>\n/g, '')
  .replace(/(width|height)="(\d+)pt"/g, '$1="$2"')
  .replace(/^<svg[^>]*>\n/, (tag) => `${tag}${title}\n<!-- ${sources} -->\n<style>\n${style}</style>\n`)
writeFileSync(new URL('sessions.svg', import.meta.url), svg)

/** What contributors and machines are told to run is there to be run, and so are the files that they are sent to. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { parseDocument } from 'yaml'

const ROOT = join(import.meta.dirname, '../..')
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8')

const github = readdirSync(join(ROOT, '.github'), { recursive: true, encoding: 'utf8' }).map(
  (name) => `.github/${name}`,
)
const yaml = github.filter((name) => name.endsWith('.yml'))
const texts = ['CONTRIBUTING.md', '.ci/run', ...yaml, ...github.filter((name) => name.endsWith('.md'))]

it.each(texts)('what %s runs is a script of package.json', (file) => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: object }
  const run = [...read(file).matchAll(/\bnpm (?:run ([\w:-]+)|(test)\b)/g)].map(([, script, test]) => script ?? test)
  expect(Object.keys(scripts)).toEqual(expect.arrayContaining(run))
})

it('CONTRIBUTING.md names files that are there', () => {
  const text = read('CONTRIBUTING.md')
  const links = [...text.matchAll(/\]\(([^)#]+)/g)].map(([, target]) => target)
  const commands = [...text.matchAll(/^npx vitest run (\S+)/gm)].map(([, path]) => path)
  const inline = [...text.matchAll(/`((?:src|test|tools|docs|api)\/[\w./-]*)`/g)].map(([, path]) => path)
  const paths = [...links, ...commands, ...inline].map(String)
  expect(paths.length).toBeGreaterThan(10)
  expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([])
})

it.each(yaml)('%s is YAML that parses without a warning', (file) => {
  const { errors, warnings } = parseDocument(read(file))
  expect([...errors, ...warnings]).toEqual([])
})

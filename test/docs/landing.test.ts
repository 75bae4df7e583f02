/** The README is a landing page: short, with the commands that CI runs, and a picture that is up to date. */
import { createHash } from 'node:crypto'
import { expect, it } from 'vitest'
import { inLanguage, read } from './blocks.js'

it('the README has at most 900 words, code included', () => {
  expect(read('README.md').trim().split(/\s+/).length).toBeLessThanOrEqual(900)
})

it('the README’s command for tests is what CI runs', () => {
  const commands = inLanguage('sh').filter(({ file }) => file === 'README.md')
  expect(commands.map(({ code }) => code)).toContain('npm ci && npm test\n')
  expect(read('.ci/run').split('\n')).toContain('npm ci && npm test')
})

it('the picture was made of its sources; if not, `npm run diagram` makes it', () => {
  const sources = ['sessions.dot', 'style.css'].map((name) => read(`docs/diagram/${name}`))
  const hash = sources.reduce((all, source) => all.update(source), createHash('sha256')).digest('hex')
  expect(read('docs/diagram/sessions.svg')).toContain(`<!-- ${hash} -->`)
  expect(read('README.md')).toContain('](docs/diagram/sessions.svg)')
})

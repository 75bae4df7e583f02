/** Links of the documentation lead somewhere: in the repository, and in the package, which holds less. */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'
import { PAGES, ROOT, read } from './blocks.js'

const isElsewhere = (target: string) => /^https?:/.test(target)

describe('in the repository', () => {
  const links = PAGES.flatMap(linksOf).filter(({ target }) => !isElsewhere(target))

  it.each(links)('$page: $target', ({ page, target }) => {
    const [, anchor] = target.split('#')
    const file = fileOf(page, target)
    expect(existsSync(join(ROOT, file))).toBe(true)
    if (anchor !== undefined) expect(anchorsOf(file)).toContain(anchor)
  })

  it('the index leads to each page', () => {
    const listed = linksOf('docs/README.md').map(({ page, target }) => fileOf(page, target))
    const pages = PAGES.filter((page) => page !== 'README.md' && page !== 'docs/README.md')
    expect(pages.filter((page) => !listed.includes(page))).toEqual([])
  })
})

describe('in the package', () => {
  const list = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: ROOT, encoding: 'utf8' })
  const [{ files }] = JSON.parse(list) as [{ files: { path: string }[] }]
  const shipped = files.map(({ path }) => path)
  const pages = shipped.filter((path) => path.endsWith('.md'))

  it('there are all pages', () => {
    expect(pages.sort()).toEqual([...PAGES, 'CHANGELOG.md'].sort())
  })

  it.each(pages)('%s leads only to what is there, too', (page) => {
    const targets = linksOf(page).filter(({ target }) => !isElsewhere(target))
    const missing = targets.filter(({ target }) => {
      const file = fileOf(page, target)
      return !shipped.some((path) => path === file || path.startsWith(`${file}/`))
    })
    expect(missing).toEqual([])
  })
})

/** Links and pictures; what stands in code blocks is none. */
function linksOf(page: string): { page: string; target: string }[] {
  const text = read(page).replace(/^(```+).*\n[\s\S]*?^\1$/gm, '')
  return [...text.matchAll(/\]\(([^)]+)\)/g)].map(([, target = '']) => ({ page, target }))
}

/** What a relative link names, from the root of the repository or the package. */
function fileOf(page: string, target: string): string {
  const [path = ''] = target.split('#')
  return path === '' ? page : normalize(join(dirname(page), path))
}

/** As GitHub makes them of headings. */
function anchorsOf(file: string): string[] {
  return [...read(file).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
}

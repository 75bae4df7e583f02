/** The code blocks of README.md, SECURITY.md and of all pages in docs/. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../../', import.meta.url))

export interface Block {
  /** Relative to the repository. */
  file: string
  /** Of the first line of code, counted from 1. */
  line: number
  /** What stands after the opening fence; empty if nothing does. */
  language: string
  code: string
}

export const PAGES: readonly string[] = [
  'README.md',
  'SECURITY.md',
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name.replaceAll('\\', '/')}`)
    .sort(),
]

export function read(file: string): string {
  return readFileSync(join(ROOT, file), 'utf8')
}

/** Throws for a fence that is never closed. */
export function blocksOf(file: string): Block[] {
  const blocks: Block[] = []
  let open: { fence: string; block: Block } | undefined
  for (const [index, text] of read(file).split('\n').entries()) {
    const fence = /^\s*(`{3,}|~{3,})\s*(.*)$/.exec(text)
    if (open) {
      if (fence && fence[1] === open.fence && fence[2] === '') {
        blocks.push(open.block)
        open = undefined
      } else open.block.code += `${text}\n`
    } else if (fence) {
      open = { fence: fence[1] ?? '', block: { file, line: index + 2, language: fence[2] ?? '', code: '' } }
    }
  }
  if (open) throw new Error(`${file}:${open.block.line}: the code block is not closed`)
  return blocks
}

export const BLOCKS: readonly Block[] = PAGES.flatMap(blocksOf)

export function inLanguage(...languages: string[]): Block[] {
  return BLOCKS.filter(({ language }) => languages.includes(language))
}

export function title({ file, line }: Block): string {
  return `${file}:${line}`
}

/** The text under a heading, up to the next heading of any level. */
export function sectionOf(file: string, heading: string): string {
  const [, ...sections] = `\n${read(file)}`.split(/\n(?=#+ )/)
  const section = sections.find((text) => text.startsWith(`${heading}\n`))
  if (section === undefined) throw new Error(`${file} has no heading ${heading}`)
  return section
}

/** Cells of a Markdown table's rows, without head and rule; the table is the first one under a heading. */
export function tableAfter(file: string, heading: string): string[][] {
  const lines = sectionOf(file, heading).split('\n')
  const first = lines.findIndex((line) => line.startsWith('|'))
  if (first < 0) throw new Error(`${file} has no table under ${heading}`)
  const rows: string[][] = []
  for (const line of lines.slice(first)) {
    if (!line.startsWith('|')) break
    rows.push(
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    )
  }
  return rows.slice(2)
}

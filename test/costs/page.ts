/** The numbers of docs/costs.md. */
import { tableAfter } from '../docs/blocks.js'
import type { Cost } from './scene.js'

const PAGE = 'docs/costs.md'

/** What the letters of the page's formulas stand for. */
export type Letters = Partial<Record<'h' | 'k' | 's' | 'n' | 'g', number>>

/** The rows of a table under a heading, by their first cells. */
export function rowsOf(heading: string): Map<string, string[]> {
  return new Map(tableAfter(PAGE, heading).map(([name = '', ...cells]) => [name, cells]))
}

export const OPERATION_ROWS: ReadonlyMap<string, string[]> = rowsOf('## One operation')

/** What the page says that an operation costs. */
export function costSaid(name: string, letters: Letters): Cost {
  const [store = '', log = '', bus = '', messages = ''] = OPERATION_ROWS.get(name) ?? []
  const result = (formula: string) => resultOf(formula, letters)
  return { store: result(store), log: result(log), bus: result(bus), messages: result(messages) }
}

/** A number or a formula: `2(h - 1)`, `⌈g/256⌉`; after it, when it is not 0: `1 if h > 1`. */
export function resultOf(formula: string, letters: Letters): number {
  const [value = '', condition] = formula.split(' if ')
  if (condition !== undefined && !calculate(condition, letters)) return 0
  return Number(calculate(value, letters))
}

function calculate(formula: string, letters: Letters): unknown {
  const code = formula
    .replaceAll(',', '')
    .replace(/⌈(.*?)⌉/g, 'Math.ceil($1)')
    .replace(/(\d)(?=[a-z(])/g, '$1*')
  return new Function(...Object.keys(letters), `'use strict'; return ${code}`)(...Object.values(letters))
}

/** Constant load: clients that call tools of every kind, and what came of it. */
import type { Random } from '../harness/random.js'
import type { Call, ChaosClient, Outcome } from './client.js'
import { TOOLS, type Tool } from './tools.js'

const KINDS: readonly Tool[] = Object.keys(TOOLS) as Tool[]

/** Each client makes `width` calls at a time until `over`; resolves when all calls have ended, each within `bound` ms. */
export async function load(
  clients: readonly ChaosClient[],
  random: Random,
  { width, bound, over }: { width: number; bound: number; over(): boolean },
): Promise<Call[]> {
  const worker = async (client: ChaosClient) => {
    while (!over()) {
      await client.call(random.pick(KINDS), { steps: random.between(2, 15), ms: random.between(10, 100) }, bound)
      // a client that gets nothing but refusals does not ask a thousand times a second
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
  await Promise.all(clients.flatMap((client) => Array.from({ length: width }, () => worker(client))))
  return clients.flatMap(({ calls }) => calls)
}

const OUTCOMES: readonly Outcome[] = ['ok', 'unknown', 'unanswered', 'cut', 'away', 'hung', 'wrong']

/** How many calls of each tool ended how. */
export function table(calls: readonly Call[]): string {
  const count = (these: readonly Call[]) => [
    these.length,
    ...OUTCOMES.map((outcome) => these.filter((call) => call.outcome === outcome).length),
    these.filter(({ resumed }) => resumed > 0).length,
    these.reduce((sum, { resumed }) => sum + resumed, 0),
  ]
  const rows: (string | number)[][] = [
    ['', 'calls', ...OUTCOMES, 'resumed', 'times'],
    ...KINDS.map((tool) => [
      `${tool}${TOOLS[tool] ? ' (safe)' : ''}`,
      ...count(calls.filter((call) => call.tool === tool)),
    ]),
    ['all', ...count(calls)],
  ]
  return rows
    .map(([name, ...cells]) => String(name).padEnd(14) + cells.map((cell) => String(cell).padStart(11)).join(''))
    .join('\n')
}

/** Whether what a call said came in order, once, and completely if it succeeded. */
export function disorder({ tool, outcome, steps, progress, own, aside, key }: Call): string[] {
  const found: string[] = []
  const inOrder = (seen: number[]) => seen.every((step, index) => step === index + 1)
  const rising = (seen: number[]) => seen.every((step, index) => index === 0 || step > (seen[index - 1] ?? 0))
  const say = (what: string, seen: number[]) => found.push(`${tool} ${key} ${outcome}: ${what} ${seen} of ${steps}`)
  if (!inOrder(progress)) say('progress', progress)
  if (!inOrder(own)) say('notifications', own)
  if (!rising(aside)) say('notifications aside', aside)
  if (outcome !== 'ok') return found
  if (tool.startsWith('long') && progress.length !== steps) say('progress', progress)
  if (tool === 'notify' && own.length !== steps) say('notifications', own)
  return found
}

/** Runs the official conformance runner against a server, and reads what it found. */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** One check of the runner. */
export interface Check {
  scenario: string
  id: string
  description: string
  status: 'SUCCESS' | 'FAILURE' | 'WARNING' | 'INFO' | 'SKIPPED'
  errorMessage?: string
  details?: unknown
}

export interface Report {
  /** Names of the scenarios that were run. */
  scenarios: string[]
  checks: Check[]
  /** Checks that say that the server does something wrong, or not as recommended. */
  complaints: Check[]
  /** What the runner printed, and its complaints in detail. */
  text: string
}

export interface ConformanceOptions {
  /** `active`: what a server must pass; `all` (default): that, and what the runner does not count yet. */
  suite?: 'active' | 'all'
  /** A run that takes longer is killed and rejects, in ms. Default 60,000; a good one takes two seconds. */
  timeout?: number
}

/** Rejects only if the runner could not do its work; whether the server passed is in the report. */
export async function runConformance(url: string, options: ConformanceOptions = {}): Promise<Report> {
  const { suite = 'all', timeout = 60_000 } = options
  const results = await mkdtemp(join(tmpdir(), 'mcp-roam-conformance-'))
  try {
    const output = await run(['server', '--url', url, '--suite', suite, '--output-dir', results], timeout)
    const checks = await readChecks(results)
    if (checks.length === 0) throw new Error(`the conformance runner left no results:\n${output}`)
    const complaints = checks.filter(({ status }) => status === 'FAILURE' || status === 'WARNING')
    const summary = output.slice(output.indexOf('=== SUMMARY ==='))
    return {
      scenarios: [...new Set(checks.map(({ scenario }) => scenario))],
      checks,
      complaints,
      text: [summary, ...complaints.map(explain)].join('\n'),
    }
  } finally {
    await rm(results, { recursive: true, force: true })
  }
}

/** Resolves with what the runner prints; its exit code says no more than its results do. */
function run(args: string[], timeout: number): Promise<string> {
  const runner = createRequire(import.meta.url).resolve('@modelcontextprotocol/conformance/dist/index.js')
  const command = ['--import', new URL('./node20.mjs', import.meta.url).href, runner, ...args]
  return new Promise((resolve, reject) => {
    execFile(process.execPath, command, { timeout, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
      const output = stdout + stderr
      if (error?.killed) reject(new Error(`the conformance runner took more than ${timeout} ms:\n${output}`))
      else resolve(output)
    })
  })
}

/** The runner leaves one folder a scenario: `server-<scenario>-<time>/checks.json`. */
async function readChecks(results: string): Promise<Check[]> {
  const folders = await readdir(results)
  const checks = folders.map(async (folder) => {
    const scenario = folder.replace(/^server-/, '').replace(/-\d{4}-\d{2}-\d{2}T.*$/, '')
    const found = JSON.parse(await readFile(join(results, folder, 'checks.json'), 'utf8')) as Check[]
    return found.map((check) => ({ ...check, scenario }))
  })
  return (await Promise.all(checks)).flat()
}

function explain({ status, scenario, id, errorMessage, details }: Check): string {
  return `${status} ${scenario} / ${id}: ${errorMessage ?? ''}\n${JSON.stringify(details, null, 2)}`
}

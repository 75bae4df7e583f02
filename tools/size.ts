/**
 * What the package costs: bytes to download and on the disk, and what `import 'mcp-roam'` loads. Fails over the limits of
 * size-limits.json, and where the import reaches another package or a module of Node that is not named there. These are
 * counts, the same on every machine. What is imported later, when it is asked for (a backend's client), is not part of it.
 */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { build } from 'esbuild'
import limits from './size-limits.json' with { type: 'json' }

const ROOT = join(import.meta.dirname, '..')
const ENTRY = 'dist/index.js'

const [pack] = JSON.parse(
  execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: ROOT, encoding: 'utf8' }),
) as [{ size: number; unpackedSize: number }]
const { bytes, modules, foreign } = await imported()

const rows: [what: string, is: number, limit: number][] = [
  ['package, bytes to download', pack.size, limits.package.tarball],
  ['package, bytes unpacked', pack.unpackedSize, limits.package.unpacked],
  ['import, bytes of JavaScript', bytes, limits.import.bytes],
  ['import, modules', modules, limits.import.modules],
]
for (const [what, is, limit] of rows) {
  const verdict = is > limit ? ' OVER THE LIMIT' : ''
  console.log(`${what.padEnd(28)}${count(is)} of ${count(limit)}${verdict}`)
}
const unexpected = foreign.filter((name) => !limits.import.node.includes(name))
for (const name of unexpected) console.log(`import reaches ${name}, which tools/size-limits.json does not name`)
if (unexpected.length > 0 || rows.some(([, is, limit]) => is > limit)) process.exitCode = 1

/** What the entry imports, and what that imports: our own files, and the names of all else. */
async function imported(): Promise<{ bytes: number; modules: number; foreign: string[] }> {
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: [ENTRY],
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    // Node loads a file also if nothing of it is used
    ignoreAnnotations: true,
    write: false,
    metafile: true,
  })
  const own = new Set<string>([ENTRY])
  const foreign = new Set<string>()
  for (const path of own) {
    for (const edge of metafile.inputs[path]?.imports ?? []) {
      if (edge.kind === 'dynamic-import') continue
      if (edge.external) foreign.add(edge.path)
      else own.add(edge.path)
    }
  }
  const bytes = [...own].reduce((sum, path) => sum + (metafile.inputs[path]?.bytes ?? 0), 0)
  return { bytes, modules: own.size, foreign: [...foreign].sort() }
}

function count(number: number): string {
  return number.toLocaleString('en').padStart(9)
}

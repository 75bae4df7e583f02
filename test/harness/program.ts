/** Programs of test processes, compiled: they start three times as fast as through a loader, which counts where servers are killed. */
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { removeAtExit } from '../services/children.js'

const compiled = new Map<string, Promise<string>>()

/** Path of the program, made of `entry` (in the folder of tests) as it is at the first call. */
export function program(entry: string): Promise<string> {
  const made = compiled.get(entry) ?? compile(entry)
  compiled.set(entry, made)
  return made
}

async function compile(entry: string): Promise<string> {
  const name = basename(entry, '.ts')
  // inside the project, so that packages are found; one for each test process, so that none sees another's half-written files
  const folder = fileURLToPath(new URL(`../../node_modules/.cache/${name}-${process.pid}`, import.meta.url))
  removeAtExit(folder)
  await build({
    entryPoints: [fileURLToPath(new URL(`../${entry}`, import.meta.url))],
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    packages: 'external',
    // What is imported on demand stays so: a server of one SDK line does not load the other.
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    logLevel: 'silent',
  })
  return `${folder}/${name}.mjs`
}

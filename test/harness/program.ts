/** The fixture process, compiled: it starts three times as fast as through a loader, which counts where servers are killed. */
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { removeAtExit } from '../services/children.js'

const SERVE = fileURLToPath(new URL('../fixtures/serve.ts', import.meta.url))
/** Inside the project, so that packages are found; one for each test process, so that none sees another's half-written files. */
const FOLDER = fileURLToPath(new URL(`../../node_modules/.cache/fixture-${process.pid}`, import.meta.url))

let compiled: Promise<string> | undefined

/** Path of the program, made at the first call from the sources as they are now. */
export function fixtureProgram(): Promise<string> {
  compiled ??= compile()
  return compiled
}

async function compile(): Promise<string> {
  removeAtExit(FOLDER)
  await build({
    entryPoints: [SERVE],
    outdir: FOLDER,
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
  return `${FOLDER}/serve.mjs`
}

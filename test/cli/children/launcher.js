// What npx and the like are: a process that starts the server as a child of its own and hands it its pipes.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const puppet = fileURLToPath(new URL('puppet.js', import.meta.url))
spawn(process.execPath, [puppet, ...process.argv.slice(2)], { stdio: 'inherit' })
process.on('SIGTERM', () => {})
setInterval(() => {}, 1_000)

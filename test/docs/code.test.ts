/** Every code block of the documentation is checked by what its language allows; none escapes. */
import { execFile, spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { createSessionHandler } from '../../src/index.js'
import { BLOCKS, type Block, inLanguage, PAGES, ROOT, read, title } from './blocks.js'
import { applied } from './diff.js'

const FOLDER = join(ROOT, 'node_modules/.cache/mcp-roam-docs')
// Those of sql and redis are run by security.test.ts.
const CHECKED = ['ts', 'js', 'sh', 'json', 'yaml', 'diff', 'nginx', 'text', 'sql', 'redis']

it('each block says its language, and it is one that is checked here', () => {
  const others = BLOCKS.filter(({ language }) => !CHECKED.includes(language))
  expect(others.map((block) => `${title(block)} ${block.language}`)).toEqual([])
  expect(BLOCKS.length).toBeGreaterThan(20)
})

it('there are no indented code blocks, which would not be checked', () => {
  for (const page of PAGES) {
    const outside = read(page).replace(/^(```+).*\n[\s\S]*?^\1$/gm, '')
    const indented = outside.split('\n').filter((line, i, lines) => /^ {4}\S/.test(line) && lines[i - 1] === '')
    expect(indented, page).toEqual([])
  }
})

describe('TypeScript and JavaScript', () => {
  /** The name that the first line gives to a block that others import. */
  const nameOf = ({ code }: Block) => /^\/\/ ([\w.-]+\.ts)\n/.exec(code)?.[1]
  const needsLine2 = ({ code }: Block) => /from '@modelcontextprotocol\/(server|express)'/.test(code)
  const isWholeFile = ({ language, code }: Block) => language === 'js' && code.includes('\nimport ')

  it('compiles under strict, with servers of both SDK lines', { timeout: 120_000 }, async () => {
    const typed = inLanguage('ts')
    const servers = typed.filter((block) => nameOf(block) === 'server.ts')
    expect(servers).toHaveLength(2)
    rmSync(FOLDER, { recursive: true, force: true })
    const files = servers.flatMap((server, line) => [
      write(`line${line + 1}/server.ts`, server.code),
      ...typed
        .filter((block) => nameOf(block) === undefined && (line === 1 || !needsLine2(block)))
        .map((block) => write(`line${line + 1}/${slug(block)}.ts`, `${block.code}\nexport {}\n`)),
    ])
    const examples = ['minimal/server.js', 'cluster/server.js', 'express/before.js', 'express/after.js']
    for (const line of ['v1', 'v2']) {
      for (const stage of ['before', 'after', 'events']) examples.push(`express-transport/${line}-${stage}.js`)
    }
    write('package.json', '{ "type": "module" }')
    write(
      'tsconfig.json',
      JSON.stringify({
        compilerOptions: {
          target: 'ES2022',
          // Request and Response in a signature are the browser's or Node's; both are there in most projects
          lib: ['ES2023'],
          module: 'NodeNext',
          types: ['node'],
          strict: true,
          allowJs: true,
          checkJs: true,
          skipLibCheck: true,
          noEmit: true,
          rootDir: '/',
          typeRoots: [join(ROOT, 'node_modules/@types')],
          paths: sources(),
        },
        files: [...files, ...examples.map((name) => join(ROOT, 'examples', name))],
      }),
    )
    const tsc = join(ROOT, 'node_modules/.bin/tsc')
    const { stdout } = await promisify(execFile)(tsc, ['-p', FOLDER, '--pretty', 'false']).catch((error) => error)
    expect(stdout).toBe('')
  })

  it('blocks of JavaScript are files of examples/, as they stand', () => {
    for (const block of inLanguage('js')) {
      expect(isWholeFile(block), title(block)).toBe(true)
      expect(block.code, title(block)).toBe(read('examples/minimal/server.js'))
    }
  })

  function write(name: string, text: string): string {
    const path = join(FOLDER, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, text)
    return path
  }
})

/** What `mcp-roam` and its subpaths are, from what package.json exports. */
function sources(): Record<string, string[]> {
  const { exports } = JSON.parse(read('package.json')) as { exports: Record<string, { default?: string }> }
  return Object.fromEntries(
    Object.entries(exports).flatMap(([path, target]) => {
      const file = target.default?.replace(/^\.\/dist\/(.*)\.js$/, 'src/$1.ts')
      return file ? [[`mcp-roam${path.slice(1)}`, [join(ROOT, file)]]] : []
    }),
  )
}

function slug({ file, line }: Block): string {
  return `${file.replace(/\W/g, '-')}-${line}`
}

describe('commands', () => {
  const lines = inLanguage('sh').flatMap((block) =>
    block.code
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => ({ at: title(block), line })),
  )

  it.each(lines)('$at $line', ({ line }) => {
    for (const command of line.split(' && ')) check(command.split(' '))
  })

  const CLI = join(ROOT, 'dist/cli/main.js')

  const { scripts, dependencies, devDependencies, peerDependencies, bin, name } = JSON.parse(read('package.json'))

  function check([program = '', ...args]: string[], env: Record<string, string> = {}): void {
    const [, variable, value = ''] = /^([A-Z_]+)=(.+)$/.exec(program) ?? []
    if (variable !== undefined) {
      check(args, { ...env, [variable]: value })
      return
    }
    switch (program) {
      case 'npm':
        checkNpm(args)
        return
      case 'npx':
        expect(Object.keys(bin)).toContain(args[0])
        if (args[1] === 'sessions') checkSessions(args.slice(1))
        else checkServe(args.slice(1), env)
        return
      case 'openssl': {
        const made = spawnSync(program, args, { encoding: 'utf8' }).stdout
        expect(() => createSessionHandler(() => Promise.reject(), { encryption: { keys: [made] } })).not.toThrow()
        return
      }
      case 'docker':
        expect(args).toEqual(['compose', '-f', expect.any(String), 'up', '--build'])
        expect(read(args[2] ?? '')).toContain(`docker ${args.join(' ')}\n`)
        return
      default:
        throw new Error(`nothing here knows how to check ${program}`)
    }
  }

  function checkNpm([verb = '', ...args]: string[]): void {
    if (verb === 'ci') {
      expect(args).toEqual([])
      return
    }
    if (verb === 'install') {
      const known = Object.keys({ ...dependencies, ...devDependencies, ...peerDependencies, [name]: '' })
      for (const wanted of args) expect(known).toContain(wanted)
      return
    }
    const script = verb === 'run' ? args[0] : verb
    expect(Object.keys(scripts)).toContain(script)
    // What our own scripts run must be there to be run.
    for (const [, file] of String(scripts[script ?? '']).matchAll(/\bnode (?:--\S+ tsx )?(\S+\.[jt]s)/g)) {
      const source = file?.replace(/^dist\/(.*)\.js$/, 'src/$1.ts') ?? ''
      expect(read(source).length).toBeGreaterThan(0)
    }
  }

  /** The real command, with a server in place of the given one that it cannot find: it says so after it has understood the rest. */
  function checkServe(args: string[], env: Record<string, string>): void {
    const given = args.slice(0, args.indexOf('--') + 1)
    expect(given.at(-1)).toBe('--')
    expect(run([...given, './no-such-server'], env)).toEqual([1, 'mcp-roam: command not found: ./no-such-server\n'])
    // a variable that the command does not know would be passed over in silence
    for (const name of Object.keys(env)) {
      expect(run([...given, './no-such-server'], { ...env, [name]: 'nonsense' })).toEqual([2, expect.any(String)])
    }
  }

  /** The real command, which finds that the file is not there. */
  function checkSessions(args: string[]): void {
    expect(run(args, {})).toEqual([1, expect.stringMatching(/^mcp-roam: no such file: \S+\/sessions\.db\n$/)])
  }

  /** Exit code and stderr. */
  function run(args: string[], env: Record<string, string>): [number | null, string] {
    const options = { encoding: 'utf8', cwd: join(ROOT, 'test/docs'), env: { ...process.env, ...env } } as const
    const { status, stderr } = spawnSync(process.execPath, [CLI, ...args], options)
    return [status, stderr]
  }
})

describe('data', () => {
  it.each(inLanguage('json').map((block) => [title(block), block] as const))('%s is JSON', (_, { code }) => {
    expect(JSON.parse(code)).toBeTypeOf('object')
  })

  it.each(inLanguage('yaml').map((block) => [title(block), block] as const))(
    '%s is YAML, and part of the manifest',
    (_, { code }) => {
      const [excerpt] = yaml(code) as [{ spec: unknown }]
      const deployment = yaml(read('examples/kubernetes/mcp-server.yaml')).find(
        (document): document is { spec: { template: { spec: unknown } } } =>
          (document as { kind?: string }).kind === 'Deployment',
      )
      expect(deployment?.spec.template).toMatchObject(excerpt)
    },
  )

  it('the examples are YAML that parses without a warning', () => {
    expect(yaml(read('examples/compose/compose.yaml'))).toHaveLength(1)
    expect(yaml(read('examples/kubernetes/mcp-server.yaml'))).toHaveLength(4)
  })

  function yaml(text: string): unknown[] {
    const documents = parseAllDocuments(text, { merge: true })
    if (!Array.isArray(documents)) return []
    return documents.map((document) => {
      expect([...document.errors, ...document.warnings]).toEqual([])
      return document.toJSON() as unknown
    })
  }
})

describe('diffs', () => {
  it.each(inLanguage('diff').map((block) => [title(block), block] as const))(
    '%s makes one example of another',
    (_, { code }) => {
      const { from, to, result } = applied(code, read)
      expect(result).toBe(read(to))
      expect(from).not.toBe(to)
    },
  )
})

describe('settings of nginx', () => {
  it.each(inLanguage('nginx').map((block) => [title(block), block] as const))(
    '%s are those of the example',
    (_, block) => {
      const example = read('examples/compose/nginx.conf')
        .split('\n')
        .map((line) => line.trim())
      for (const line of block.code.trim().split('\n')) expect(example).toContain(line)
    },
  )
})

describe('output', () => {
  const blocks = inLanguage('text')
  const [excerpt = '', whole = ''] = blocks.map(({ code }) => code)

  it('is that of the demo', () => {
    expect(blocks.map(({ file }) => file)).toEqual(['README.md', 'docs/demo.md'])
    const program = ['demo/run.ts', 'demo/report.ts'].map(read).join('\n')
    const labels = [...whole.matchAll(/^ {2}([a-z]+(?: [a-z]+)*) {2,}\S/gm)].map(([, label]) => label)
    expect(labels).toContain('session after')
    for (const label of labels) expect(program, label).toMatch(new RegExp(`['" ]${label}['":]`))
    expect(whole).toMatch(/session before +(\S+)\n +session after +\1 +the same\n/)
    expect(whole).toMatch(/calls hung +0\n/)
  })

  it('is shown in part by the README', () => {
    const lines = whole.split('\n')
    for (const line of excerpt.split('\n')) expect(lines).toContain(line)
    expect(excerpt).toContain('session after')
    expect(excerpt).toContain('calls failed')
  })
})

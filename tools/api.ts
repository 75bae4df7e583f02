/**
 * The public face of the package, one report for each entry of package.json's `exports`: what a change does to users is
 * there to be read in its diff. `npm run api` writes the reports to api/; with --check this fails where one is out of date.
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Extractor, ExtractorConfig, type ExtractorLogLevel, type IConfigFile } from '@microsoft/api-extractor'

const ROOT = join(import.meta.dirname, '..')
const REPORTS = join(ROOT, 'api')
const check = process.argv.includes('--check')

const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  exports: Record<string, { types?: string } | string>
}

const known: string[] = []
const changed: string[] = []
for (const [entry, target] of Object.entries(exports)) {
  if (typeof target === 'string' || target.types === undefined) continue
  const report = `${entry === '.' ? 'index' : entry.slice('./'.length).replaceAll('/', '-')}.api.md`
  known.push(report)
  if (differs(target.types, report)) changed.push(report)
}
for (const report of readdirSync(REPORTS).filter((name) => !known.includes(name))) {
  changed.push(report)
  if (!check) rmSync(join(REPORTS, report))
}

for (const report of changed) console.log(`api/${report} ${check ? 'is out of date' : 'has changed'}`)
if (check && changed.length > 0) {
  console.log('Run `npm run api`, see in the diff of api/ what changes for users, and commit it.')
  process.exitCode = 1
}

/** Whether the report is not what the declarations say. Brings it up to date unless that is only to be checked. */
function differs(types: string, report: string): boolean {
  const logLevel = (name: string) => ({ logLevel: name as ExtractorLogLevel })
  const configObject: IConfigFile = {
    projectFolder: ROOT,
    mainEntryPointFilePath: join(ROOT, types),
    newlineKind: 'lf',
    compiler: { tsconfigFilePath: join(ROOT, 'tsconfig.build.json') },
    apiReport: {
      enabled: true,
      reportFileName: report,
      reportFolder: REPORTS,
      // what users meet there and import from elsewhere, or not at all, is part of the face, too
      includeForgottenExports: true,
      // both are needed to compare; git does not see this one
      reportTempFolder: join(ROOT, 'node_modules/.cache/api'),
    },
    docModel: { enabled: false },
    tsdocMetadata: { enabled: false },
    messages: {
      extractorMessageReporting: {
        // Everything that is exported is public: there are no tags for it.
        'ae-missing-release-tag': logLevel('none'),
        // They stand in the report, without `export`.
        'ae-forgotten-export': logLevel('none'),
      },
      // Docstrings are written for readers and editors, not for a generator.
      tsdocMessageReporting: { default: logLevel('none') },
    },
  }
  const extractorConfig = ExtractorConfig.prepare({
    configObject,
    configObjectFullPath: undefined,
    packageJsonFullPath: join(ROOT, 'package.json'),
  })
  const { succeeded, apiReportChanged } = Extractor.invoke(extractorConfig, {
    localBuild: !check,
    messageCallback: (message) => {
      // A report that differs is told once, below; what belongs into it is there.
      if (message.logLevel !== 'error') message.handled = true
    },
  })
  if (!succeeded && !apiReportChanged) throw new Error(`no report of ${types}`)
  return apiReportChanged
}

// Preloaded, it makes the process find no better-sqlite3, as if it were not installed.
import { register } from 'node:module'

register(
  `data:text/javascript,${encodeURIComponent(`
  export async function resolve(specifier, context, next) {
    if (specifier !== 'better-sqlite3') return next(specifier, context)
    throw Object.assign(new Error("Cannot find package 'better-sqlite3'"), { code: 'ERR_MODULE_NOT_FOUND' })
  }`)}`,
)

// Preloaded, it makes the process find none of the database clients, as if they were not installed.
import { register } from 'node:module'

register(
  `data:text/javascript,${encodeURIComponent(`
  const CLIENTS = new Set(['ioredis', 'redis', 'pg', 'postgres'])
  export async function resolve(specifier, context, next) {
    if (!CLIENTS.has(specifier)) return next(specifier, context)
    throw Object.assign(new Error("Cannot find package '" + specifier + "'"), { code: 'ERR_MODULE_NOT_FOUND' })
  }`)}`,
)

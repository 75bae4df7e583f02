/** From a backend's URL to the backend. */
import type { Backend } from '../../backend/backend.js'
import { backendError } from './backend-error.js'
import type { BackendUrl } from './backend-url.js'

interface Made {
  backend: Backend
  /** Rejects if the backend cannot be used. */
  check(): Promise<void>
}

/**
 * A backend that was reached.
 *
 * @throws CommandError if it cannot be used.
 */
export async function openBackend(url: BackendUrl): Promise<Backend> {
  const { backend, check } = await make(url)
  try {
    await check()
    return backend
  } catch (error) {
    await backend.close?.().catch(() => {})
    throw backendError(url, error)
  }
}

/** A backend that connects when it is first used: for a process whose parent has checked that it can be reached. */
export async function lazyBackend(url: BackendUrl): Promise<Backend> {
  return (await make(url)).backend
}

async function make(url: BackendUrl): Promise<Made> {
  switch (url.kind) {
    case 'memory': {
      const { memory } = await import('../../backend/memory.js')
      return { backend: memory(), check: async () => {} }
    }
    case 'sqlite': {
      const { sqlite } = await import('../../backend/sqlite.js')
      const backend = sqlite({ file: url.file })
      return { backend, check: async () => backend.ping?.() }
    }
    case 'redis': {
      const { redis } = await import('../../backend/redis.js')
      const backend = redis({ url: url.url })
      return { backend, check: () => backend.ping() }
    }
    case 'postgres': {
      const { postgres } = await import('../../backend/postgres.js')
      const backend = postgres({ url: url.url })
      // A user who may not create the tables should be told now, not with each request.
      return { backend, check: () => backend.migrate() }
    }
  }
}

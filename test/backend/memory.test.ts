import { memory } from '../../src/backend/memory.js'
import { certify } from './contract.js'

certify('memory', async ({ retention }) => ({ backend: memory(retention ? { retention } : {}) }))

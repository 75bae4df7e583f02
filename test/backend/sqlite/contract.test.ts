import { sqlite } from '../../../src/backend/sqlite.js'
import { certify, certifyTombstones, pairs } from '../contract.js'
import { newFile } from './files.js'

const file = newFile()
certify(
  'sqlite',
  pairs((needs) => sqlite({ file, ...needs })),
)

certifyTombstones((now) => sqlite({ file: newFile(), now }))

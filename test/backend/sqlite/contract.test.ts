import { sqlite } from '../../../src/backend/sqlite.js'
import { certify, certifyTimes, pairs } from '../contract.js'
import { newFile } from './files.js'

const file = newFile()
certify(
  'sqlite',
  pairs((needs) => sqlite({ file, ...needs })),
)

certifyTimes((now) => sqlite({ file: newFile(), now }))

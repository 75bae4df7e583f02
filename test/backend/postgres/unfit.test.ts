import { describeWith, postgresUrl } from '../../services/use.js'
import { certifyUnfit } from '../unfit.js'
import { useDatabase } from './fixture.js'

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const { admin, fresh } = useDatabase(url)
  certifyUnfit('PostgreSQL', async () => {
    const { backend, schema } = fresh()
    return {
      backend,
      async overwrite(id, text) {
        const { rowCount } = await admin.query(`update "${schema}".sessions set record = $1 where id = $2`, [text, id])
        if (rowCount !== 1) throw new Error('nothing was stored')
      },
    }
  })
})

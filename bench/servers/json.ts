/** The least that can stand between node:http and JSON-RPC: parse the body, write the answer. */
import type { IncomingMessage, ServerResponse } from 'node:http'

export function readJson(req: IncomingMessage): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    req.on('data', (chunk: Buffer) => chunks.push(chunk))
    req.on('error', reject)
    req.on('end', () => {
      try {
        resolve(JSON.parse(Buffer.concat(chunks).toString()))
      } catch (error) {
        reject(error)
      }
    })
  })
}

export function writeJson(res: ServerResponse, message: object, sessionId: string): void {
  const body = JSON.stringify(message)
  res.writeHead(200, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    'mcp-session-id': sessionId,
  })
  res.end(body)
}

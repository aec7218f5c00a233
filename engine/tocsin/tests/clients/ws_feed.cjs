// The feed read with the npm package `ws`, as its users read it: the key in the headers, messages
// as Buffers. Environment, output lines and exit codes are those of expectation.py.
'use strict'

const fs = require('node:fs')
const WebSocket = require('ws')

const env = process.env
const emit = (event) => fs.writeSync(1, JSON.stringify(event) + '\n')
const missing = {
  welcome: 1,
  test_announcement: env.CLIENT_TEST === '1' ? 1 : 0,
  announcement: Number(env.CLIENT_ANNOUNCEMENTS ?? 0),
  heartbeat: Number(env.CLIENT_HEARTBEATS ?? 0)
}
const done = () => Object.values(missing).every((count) => count === 0)

function finish() {
  if (done()) process.exit(0)
  const left = Object.fromEntries(Object.entries(missing).filter(([, count]) => count > 0))
  emit({ event: 'failed', detail: `not seen: ${JSON.stringify(left)}` })
  process.exit(1)
}

const socket = new WebSocket(env.CLIENT_URL, {
  headers: env.CLIENT_KEY ? { 'X-API-Key': env.CLIENT_KEY } : {},
  rejectUnauthorized: env.CLIENT_INSECURE !== '1',
  ca: env.CLIENT_CA ? fs.readFileSync(env.CLIENT_CA) : undefined
})

socket.on('message', (data, isBinary) => {
  const atUs = Math.round((performance.timeOrigin + performance.now()) * 1000)
  const message = JSON.parse(data)
  emit({ event: 'message', binary: isBinary, at_us: atUs, message })
  if (missing[message.type] > 0) missing[message.type] -= 1
  if (message.type === 'welcome' && env.CLIENT_TEST === '1') socket.send(JSON.stringify({ type: 'test' }))
  if (done()) socket.close()
})

socket.on('unexpected-response', (_request, response) => {
  const parts = []
  response.on('data', (part) => parts.push(part))
  response.on('end', () => {
    emit({ event: 'refused', status: response.statusCode, body: Buffer.concat(parts).toString() })
    finish()
  })
})

socket.on('error', (error) => {
  emit({ event: 'error', detail: `${error.code ?? error.name}: ${error.message}` })
  finish()
})

socket.on('close', (code, reason) => {
  emit({ event: 'closed', code, reason: reason.toString() })
  finish()
})

setTimeout(finish, Number(env.CLIENT_TIMEOUT_SECS ?? 30) * 1000)

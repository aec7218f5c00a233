// Runs php_receiver.php in PHP's built-in server and puts TLS in front of it, which that server lacks.
'use strict';

const { spawn } = require('node:child_process');
const net = require('node:net');
const path = require('node:path');
const tls = require('node:tls');
const common = require('./common.cjs');

const STARTED = /\(http:\/\/127\.0\.0\.1:(\d+)\) started/;

// PHP ends with this process, however that ends.
const script = path.join(__dirname, 'php_receiver.php');
const php = spawn('setpriv', ['--pdeathsig', 'KILL', 'php', '-S', '127.0.0.1:0', script], {
  stdio: ['ignore', 'inherit', 'pipe'],
});
for (const event of ['error', 'exit']) {
  php.on(event, (why) => {
    process.stderr.write(`php: ${why}; is php-cli there (scripts/setup-test-clients)?\n`);
    process.exit(1);
  });
}

let log = '';
let port = null;
php.stderr.on('data', (data) => {
  // It also logs every request there.
  if (port) return;
  log += data;
  port = STARTED.exec(log)?.[1];
  if (port) common.listen(tls.createServer(common.files(), forward));
});

function forward(outside) {
  const inside = net.connect(port, '127.0.0.1');
  outside.pipe(inside).pipe(outside);
  outside.on('error', () => inside.destroy());
  inside.on('error', () => outside.destroy());
}

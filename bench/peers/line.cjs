// What the Node peers share: the announcement, its stamp, the line that asks for a broadcast, and the
// end of the process with whoever started it.
'use strict';
const net = require('node:net');

const [before, between, after] = process.env.TOCSIN_BENCH_MESSAGE.split(/\{NUMBER\}|\{STAMP\}/);

// Calls `broadcast(text)` for every line "NUMBER OFFSET"; OFFSET is the wall clock less the monotonic
// one in nanoseconds, so that a stamp has microseconds, which Date.now() has not.
function listen(broadcast, listening) {
    const server = net.createServer((socket) => {
        socket.setNoDelay(true);
        let rest = '';
        socket.on('data', (bytes) => {
            rest += bytes.toString('latin1');
            for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
                const [number, offset] = rest.slice(0, end).split(' ');
                rest = rest.slice(end + 1);
                const shift = BigInt(offset);
                const stamp = (process.hrtime.bigint() + shift) / 1000n;
                broadcast(before + number.padStart(6, '0') + between + stamp + after);
            }
        });
        socket.on('error', () => {});
    });
    server.listen(0, '127.0.0.1', () => listening(server.address().port));
}

// Says where it listens, and ends when standard input does.
function ready(feed, control) {
    const addresses = { feed: `127.0.0.1:${feed}`, control: `127.0.0.1:${control}` };
    process.stdout.write(JSON.stringify(addresses) + '\n');
    process.stdin.on('end', () => process.exit(0)).resume();
}

module.exports = { listen, ready };

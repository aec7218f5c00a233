// uWebSockets: every subscriber subscribes to one topic, an announcement is published to it.
'use strict';
const uws = require('uwebsockets');
const { listen, ready } = require('./line.cjs');

const [cert, key] = process.argv.slice(2);
const app = cert ? uws.SSLApp({ cert_file_name: cert, key_file_name: key }) : uws.App();
app.ws('/*', {
    compression: uws.DISABLED,
    idleTimeout: 0,
    sendPingsAutomatically: false,
    open: (socket) => {
        socket.subscribe('announcements');
    },
}).listen('127.0.0.1', 0, (socket) => {
    if (!socket) {
        process.exit(1);
    }
    const feed = uws.us_socket_local_port(socket);
    listen((text) => app.publish('announcements', text, false), (control) => ready(feed, control));
});

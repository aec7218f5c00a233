"""A receiver that leaves verification to an official package: library_receiver.py standardwebhooks|svix.
Both refuse what is older or newer than five minutes."""

import http.server
import sys

import common
import standardwebhooks
import svix.webhooks

LIBRARIES = {"standardwebhooks": standardwebhooks.Webhook, "svix": svix.webhooks.Webhook}
LIBRARY = LIBRARIES[sys.argv[1]]
TLS = common.tls()
# Both raise this; a header that is no signature at all makes the base64 and the split of theirs raise theirs.
REFUSALS = (svix.webhooks.WebhookVerificationError, ValueError)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            LIBRARY(common.secret()).verify(body, dict(self.headers))
            verified = True
        except REFUSALS:
            verified = False
        common.heard(verified, body, self.headers.get)
        self.send_response(200 if verified else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def finish_request(self, request, client_address):
        # In the connection's own thread: a peer that says nothing keeps nobody waiting.
        with TLS.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request, client_address):
        pass


def main():
    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    common.end_with_stdin()
    common.listening(server.server_port)
    server.serve_forever()


main()

"""A mail server for the tests: aiosmtpd on a free port of 127.0.0.1, misbehaving as it is told.

It prints its port on a line and serves until its standard input ends. Each mail it takes is one line of
JSON in --capture: envelope, content, who signed in, encrypted or not, number of the connection. Each of
--data and --rcpt is a list of what becomes of the first mails or recipients, later ones are taken:
  take         as usual
  451 ...      this answer
  close        (--data) the connection is closed where the mail should begin
  lost         (--data) the mail is taken, and the connection closed without an answer
With --hang it accepts connections and says nothing; with --one-mail it closes each after a mail.
"""

import argparse
import asyncio
import json
import logging
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult


class Server:
    def __init__(self, options):
        self.options = options
        self.data = options.data.split(",") if options.data else []
        self.rcpt = options.rcpt.split(",") if options.rcpt else []
        self.connections = 0

    def context(self):
        if not self.options.cert:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.options.cert, self.options.key)
        return context

    def authenticate(self, server, session, envelope, mechanism, auth_data):
        login = (auth_data.login.decode(), auth_data.password.decode())
        return AuthResult(success=login == (self.options.user, self.options.password), handled=False)

    def protocol(self):
        self.connections += 1
        options = {"hostname": "mail.test.example", "loop": asyncio.get_running_loop()}
        if not self.options.wrapped:
            options["tls_context"] = self.context()
        options["require_starttls"] = self.options.require_starttls
        if self.options.user:
            options.update(auth_required=True, authenticator=self.authenticate)
            options["auth_require_tls"] = bool(self.options.cert) and not self.options.wrapped
        return Protocol(self, self.connections, options)

    def capture(self, smtp, envelope):
        mail = {
            "connection": smtp.number,
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "encrypted": smtp.session.ssl is not None or self.options.wrapped,
            "authenticated": bool(smtp.session.authenticated),
            "content": envelope.content.decode(),
        }
        with open(self.options.capture, "a", encoding="utf-8") as file:
            file.write(json.dumps(mail) + "\n")


class Handler:
    def __init__(self, server):
        self.server = server

    async def handle_RCPT(self, smtp, session, envelope, address, options):
        verdict = self.server.rcpt.pop(0) if self.server.rcpt else "take"
        if verdict != "take":
            return f"{verdict} <{address}> refused"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, smtp, session, envelope):
        verdict = self.server.data.pop(0) if self.server.data else "take"
        if verdict in ("take", "lost"):
            self.server.capture(smtp, envelope)
        if verdict == "lost":
            smtp.transport.close()
        return "250 OK" if verdict in ("take", "lost") else verdict


class Protocol(SMTP):
    def __init__(self, server, number, options):
        self.server, self.number = server, number
        super().__init__(Handler(server), **options)

    async def smtp_DATA(self, arg):
        if self.server.data[:1] == ["close"]:
            self.server.data.pop(0)
            await self.push("354 go on")
            self.transport.close()
            return
        await super().smtp_DATA(arg)
        if self.server.options.one_mail:
            self.transport.close()


async def hang(reader, writer):
    await reader.read()
    writer.close()


async def main(options):
    loop = asyncio.get_running_loop()
    if options.hang:
        listener = await asyncio.start_server(hang, "127.0.0.1", options.port)
    else:
        server = Server(options)
        context = server.context() if options.wrapped else None
        listener = await loop.create_server(server.protocol, "127.0.0.1", options.port, ssl=context)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--capture", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--data", default="")
    parser.add_argument("--rcpt", default="")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--require-starttls", action="store_true")
    parser.add_argument("--wrapped", action="store_true")
    parser.add_argument("--hang", action="store_true")
    parser.add_argument("--one-mail", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    # Clients that hang up and insecure settings are what it is for.
    logging.disable()
    warnings.simplefilter("ignore")
    asyncio.run(main(arguments()))

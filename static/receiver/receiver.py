#!/usr/bin/env python3
"""A receiver of kolbox's transcripts to start from: Python 3 and its standard library, one file.

    RECEIVER_TOKEN=secret python3 receiver.py --database transcripts.sqlite --listen 127.0.0.1:8090
    python3 receiver.py --database transcripts.sqlite --list      # what came, one JSON object a line, in its order

On the box:

    [sync]
    url = "http://127.0.0.1:8090/transcripts"      # over a network: https, by a proxy such as nginx in front of this
    token = "secret"                               # or the credential sync_token

What a receiver owes the box:

1. Answer 2xx only once the transcript would survive a power cut: after the answer the box never sends it again.
2. Take each Idempotency-Key once. The same transcript may come again when the answer to it was lost; 409 says
   "I have it", and is as good as 2xx.
3. Answer 4xx only where the record itself is at fault: the box then parks that record and shows it to the staff. For
   what passes or is yours to mend answer 5xx, 429 (Retry-After is honoured), 401, 403 or 404: the box waits, and keeps
   all records in their order.
4. Answer within 10 s ([sync] timeout). What takes longer is work for afterwards: read the table.
"""

import argparse
import hmac
import json
import os
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATH = "/transcripts"
BODY_BYTES_MAX = 1024 * 1024
TABLE = """
CREATE TABLE IF NOT EXISTS transcripts (
    number      INTEGER PRIMARY KEY,                     -- the order of arrival
    key         TEXT NOT NULL UNIQUE,                    -- the Idempotency-Key: the transcript's id
    received_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, -- UTC
    body        TEXT NOT NULL                            -- the JSON object as it came
)"""


class Transcripts:
    """The table, used by one thread at a time."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # Each INSERT is on the disk when it returns.
        self.database.execute("PRAGMA synchronous = FULL")
        self.database.execute(TABLE)

    def keep(self, key, body):
        """Whether it is new."""
        with self.lock:
            done = self.database.execute(
                "INSERT INTO transcripts (key, body) VALUES (?, ?) ON CONFLICT (key) DO NOTHING", (key, body)
            )
            return done.rowcount == 1

    def bodies(self):
        with self.lock:
            return [body for (body,) in self.database.execute("SELECT body FROM transcripts ORDER BY number")]


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "kolbox-receiver", ""
    timeout = 60  # of a silent connection, in seconds
    transcripts, token = None, ""

    def do_POST(self):
        status, headers = self.take()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def take(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            # The rest of the request is not read, so this connection is of no further use.
            self.close_connection = True
            return (413 if length.isdecimal() else 411), {}
        body = self.rfile.read(int(length))
        if self.path != PATH:
            return 404, {}
        given = self.headers.get("Authorization", "").encode()
        if self.token and not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
            return 401, {"WWW-Authenticate": "Bearer"}
        key = self.headers.get("Idempotency-Key", "")
        try:
            transcript = json.loads(body)
        except ValueError:
            return 422, {}
        if not key or not isinstance(transcript, dict) or transcript.get("id") != key:
            return 422, {}
        try:
            return (201 if self.transcripts.keep(key, body.decode()) else 409), {}
        except sqlite3.Error as error:
            # The disk is full, or the file is locked: it passes.
            print(f"not kept: {error}", file=sys.stderr, flush=True)
            return 503, {"Retry-After": "30"}

    def log_message(self, format, *values):
        pass  # The path and the address say nothing new; callers' words must not be logged.


def main():
    parser = argparse.ArgumentParser(description="Takes kolbox's transcripts into an SQLite file, each once.")
    parser.add_argument("--database", default="transcripts.sqlite", metavar="FILE")
    parser.add_argument("--listen", default="127.0.0.1:8090", metavar="ADDRESS:PORT")
    parser.add_argument("--list", action="store_true", help="print what came, one JSON object a line, and stop")
    arguments = parser.parse_args()

    transcripts = Transcripts(arguments.database)
    if arguments.list:
        for body in transcripts.bodies():
            print(body)
        return
    Receiver.transcripts, Receiver.token = transcripts, os.environ.get("RECEIVER_TOKEN", "")
    if not Receiver.token:
        print("RECEIVER_TOKEN is not set: whoever reaches this address may write", file=sys.stderr, flush=True)
    host, _, port = arguments.listen.rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Receiver)
    print(f"listening on http://{host}:{server.server_port}{PATH}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

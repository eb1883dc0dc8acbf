#!/usr/bin/env bash
# fsspec 2026.9.0: cat_file and cat_ranges give the whole body where an HTTP server ignores Range.
#
# Guess:     a server may answer a request for a range with all of the file. Then the range is cut out
#            of it, or there is an error, as when the file is opened and read at that place.
# Behaviour: The whole body comes back as if it were the range, without an error or a warning: 80 bytes
#            for the 9 that were asked for. The same file, opened, raises a ValueError at the same place.
# Seen:      asked for 9 of 80 bytes: cat_file 80, cat_ranges [80], open and seek ValueError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fsspec==2026.9.0 aiohttp==3.14.5
venv/bin/python -W error - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec

content = bytes(range(80))
start, end = 10, 19


class Whole(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Whole)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/numbers"
files = fsspec.filesystem("http")
one = files.cat_file(url, start, end)
many = files.cat_ranges([url], [start], [end])
with files.open(url) as file:
    file.seek(start)
    try:
        opened = len(file.read(end - start))
    except ValueError as error:
        opened = type(error).__name__
server.shutdown()
server.server_close()
print(
    f"asked for {end - start} of {len(content)} bytes: cat_file {len(one)}, "
    f"cat_ranges {[len(part) for part in many]}, open and seek {opened}"
)
raise SystemExit((one, many, opened) != (content, [content], "ValueError"))
PYTHON

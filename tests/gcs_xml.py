"""`python -m tests.gcs_xml PORT URL`: the plain PUT of Google's XML API before fake-gcs-server, which serves the rest of that API itself.

The emulator refuses a plain PUT ("invalid uploadType") and takes one that looks signed; it checks no signature. It answers in JSON, where
the XML API has an ETag header: https://github.com/fsouza/fake-gcs-server/issues/331. Every other request and answer passes as it comes.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from functools import partial

from aiohttp import ClientSession, web
from multidict import CIMultiDict
from yarl import URL

SIGNED = "?X-Goog-Algorithm=none"
# What belongs to one connection, and what aiohttp says itself.
NOT_PASSED = {"connection", "date", "host", "keep-alive", "server", "transfer-encoding"}
SESSION = web.AppKey("session", ClientSession)


def main(port: str, upstream: str) -> None:
    """Serve until SIGTERM."""
    app = web.Application()
    app.cleanup_ctx.append(_session)
    app.router.add_route("*", "/{path:.*}", partial(_pass_on, upstream))
    web.run_app(app, host="127.0.0.1", port=int(port), print=None)


async def _session(app: web.Application) -> AsyncIterator[None]:
    async with ClientSession(auto_decompress=False) as app[SESSION]:
        yield


async def _pass_on(upstream: str, request: web.Request) -> web.Response:
    plain_put = request.method == "PUT" and not request.query_string
    url = URL(upstream + request.raw_path + (SIGNED if plain_put else ""), encoded=True)
    body = request.content if request.body_exists else None
    headers = _passed(request.headers)
    async with request.app[SESSION].request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
        if plain_put and answer.ok:
            return web.Response(headers={"ETag": f'"{(await answer.json())["etag"]}"'})
        return web.Response(status=answer.status, headers=_passed(answer.headers), body=await answer.read())


def _passed(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in NOT_PASSED)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A Docker registry with its blobs here: an image is pushed in pieces, and pulled back.

Needs: boto3
Go: registry github.com/distribution/distribution/v3/cmd/registry@v3.0.0
"""

import hashlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request

from checking import ACCESS_KEY, ENDPOINT, SECRET_KEY, check, data, finish, folder, new_bucket, same, tool

bucket, here = new_bucket(), folder()
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
(here / "config.yml").write_text(
    f"""version: 0.1
storage:
  s3:
    accesskey: {ACCESS_KEY}
    secretkey: {SECRET_KEY}
    region: us-east-1
    regionendpoint: {ENDPOINT}
    forcepathstyle: true
    bucket: {bucket}
    chunksize: 5242880
  delete:
    enabled: true
  redirect:
    disable: true
http:
  addr: 127.0.0.1:{port}
"""
)
BASE = f"http://127.0.0.1:{port}"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def call(method: str, url: str, body: bytes | None = None, **headers: str):
    request = urllib.request.Request(url, body, {name.replace("_", "-"): value for name, value in headers.items()}, method=method)
    return urllib.request.urlopen(request, timeout=60)


def push(blob: bytes) -> str:
    """Push a blob in two pieces; return its digest."""
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    place = call("POST", f"{BASE}/v2/app/blobs/uploads/").headers["Location"]
    half = len(blob) // 2
    for piece in (blob[:half], blob[half:]):
        place = call("PATCH", place, piece, Content_Type="application/octet-stream").headers["Location"]
    same(call("PUT", f"{place}&digest={digest}").status, 201)
    return digest


def wait() -> None:
    for _ in range(200):
        try:
            call("GET", f"{BASE}/v2/")
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the registry did not start")


quiet = subprocess.DEVNULL
running = subprocess.Popen([tool("registry"), "serve", str(here / "config.yml")], stdout=quiet, stderr=quiet)
try:
    with check("push an image, pull it, list its tags, delete it"):
        wait()
        layer, config = data(23_000_000), b"{}"
        described = [{"mediaType": "application/octet-stream", "digest": push(blob), "size": len(blob)} for blob in (config, layer)]
        manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}).encode()
        digest = call("PUT", f"{BASE}/v2/app/manifests/one", manifest, Content_Type=MANIFEST).headers["Docker-Content-Digest"]
        same(call("GET", f"{BASE}/v2/app/manifests/one", Accept=MANIFEST).read(), manifest)
        same(call("GET", f"{BASE}/v2/app/blobs/{described[1]['digest']}").read() == layer, True)
        same(json.loads(call("GET", f"{BASE}/v2/app/tags/list").read())["tags"], ["one"])
        same(call("DELETE", f"{BASE}/v2/app/manifests/{digest}").status, 202)
finally:
    running.terminate()
    running.wait(20)

finish()

"""The page as files: whole, of the right type, compressed where they lie so, and nothing else of this machine."""

import gzip
import re
from hashlib import sha256

import pytest

pytest.importorskip("fastapi")

from nexvar.serve.routes.page import WEB, page_files
from served import client_of, make_server

OWN_JAVASCRIPT = 120_000  # bytes that the page's own code may have
LINES = 300


@pytest.fixture(scope="module")
def client():
    with client_of(make_server()) as client:
        yield client


def test_page_and_everything_it_names_is_there(client):
    index = client.get("/")
    assert index.headers["content-type"].startswith("text/html")
    named = re.findall(r'(?:href|src)="(web/[^"]+)"', index.text)
    assert len(named) >= 4
    for path in named:
        assert client.get(f"/{path}").status_code == 200, path
    for name, text in ((path.name, path.read_text()) for path in WEB.glob("*.js")):
        for imported in re.findall(r"(?:from|import\() ?'\./([^']+)'", text):
            answer = client.get(f"/web/{imported}")
            assert answer.status_code == 200, f"{name} imports {imported}"
            assert answer.headers["content-type"].startswith("text/javascript")


def test_igv_is_the_one_that_was_checked(client):
    path = "vendor/igv.esm.min.js"
    sums = (WEB / "vendor" / "VENDOR.md").read_text()
    packed = client.get(f"/web/{path}", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert sha256(page_files()[path].body).hexdigest() in sums
    plain = client.get(f"/web/{path}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == packed.content == gzip.decompress(page_files()[path].body)
    assert sha256(plain.content).hexdigest() in sums


@pytest.mark.parametrize(
    "file", sorted(path for path in (WEB / "vendor").iterdir() if path.suffix in (".gz", ".woff2"))
)
def test_vendored_files_have_their_sum_and_licence(file):
    assert sha256(file.read_bytes()).hexdigest() in (WEB / "vendor" / "VENDOR.md").read_text()
    assert (WEB / "vendor" / f"{file.name.split('.')[0]}.LICENSE").exists()


def test_a_browser_that_has_a_file_gets_304(client):
    first = client.get("/web/app.css")
    again = client.get("/web/app.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["app.py", "../app.py", "%2e%2e/app.py", "..%2fapp.py", "/etc/passwd", "vendor/", "nothing.js", "app.js%00"]
)
def test_nothing_but_the_page_s_files_is_served(client, path):
    assert client.get(f"/web/{path}").status_code in (400, 404)


def test_own_code_stays_small():
    own = list(WEB.glob("*.js"))
    assert sum(path.stat().st_size for path in own) <= OWN_JAVASCRIPT
    for path in [*own, WEB / "index.html"]:
        assert len(path.read_text().splitlines()) <= LINES, path.name


def test_no_html_is_made_from_text_and_no_style_or_script_stands_in_html():
    for path in WEB.glob("*.js"):
        text = path.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            path.name
        )
    index = (WEB / "index.html").read_text()
    assert not re.search(r'\sstyle="|\son\w+="|<style|https?://', index)

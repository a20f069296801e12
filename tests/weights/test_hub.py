"""Downloads against a fake hub on loopback: every file layout, pinned revisions, lies, cuts, offline."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants as constants
import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from fake_hub import COMMIT, FakeHub, Repository
from nexvar import cards, models
from nexvar.cards import Card, File
from nexvar.errors import NexVarError
from nexvar.weights import hub
from nexvar.weights.assemble import official_config
from nexvar.weights.load import load
from places import GOLDEN

FAMILIES = sorted(p.parent.name for p in GOLDEN.glob("*/weights.safetensors"))
NOT_IN_REPOSITORIES = ("io", "README", "meta", "scores", "weights", "classifier", "tokenizer_facts")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A hub cache and a NexVar cache of our own."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("NEXVAR_CACHE", str(tmp_path / "nexvar"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return tmp_path


@pytest.fixture
def serve(home, monkeypatch) -> Iterator[Callable[..., FakeHub]]:
    """Start a hub with one repository, ``owner/tiny``."""
    started = []

    def start(files: dict[str, bytes], **behaviour: Any) -> FakeHub:
        fake = FakeHub({"owner/tiny": Repository(files, **behaviour)}).__enter__()
        started.append(fake)
        monkeypatch.setattr(constants, "ENDPOINT", fake.endpoint)
        template = fake.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        return fake

    yield start
    for fake in started:
        fake.__exit__()


def make_card(folder: Path, files: dict[str, bytes], **changes: Any) -> Card:
    """A card for a golden folder, as if its model had been released as ``owner/tiny``."""
    values = json.loads((folder / "config.json").read_text())
    architecture = models.infer(values)
    assert architecture is not None
    family = next((c for c in cards.all_cards().values() if c.architecture == architecture), None)
    config = dataclasses.asdict(official_config(architecture, values, folder))
    weights = [n for n in files if n.endswith((".safetensors", ".bin", ".pt", ".index.json")) or ".part" in n]
    if any(n.endswith(".index.json") for n in weights):
        weights = [n for n in weights if n.endswith(".index.json")]
    described: dict[str, Any] = {
        "name": "tiny", "architecture": architecture, "tokenizer": family.tokenizer if family else "byte",
        "objective": "causal", "context": 512, "parameters": 0, "licence": "-", "citation": "-", "parity": "-",
        "parity_note": "-", "config": config, "repo": "owner/tiny", "revision": COMMIT,
        "files": tuple(File(n, hashlib.sha256(files[n]).hexdigest(), len(files[n])) for n in weights),
    }  # fmt: skip
    return Card(**{**described, **changes})


def repository(folder: Path, layout: str = "single") -> dict[str, bytes]:
    """The golden folder's files as an official repository would hold them."""
    files = {
        p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and not p.name.startswith(NOT_IN_REPOSITORIES)
    }
    state = load_file(folder / "weights.safetensors")
    return files | LAYOUTS[layout](state)


def torch_bytes(state: dict[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def sharded(state: dict[str, Tensor]) -> dict[str, bytes]:
    names = sorted(state)
    halves = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    index = {"metadata": {}, "weight_map": {k: shard for shard, keys in halves.items() for k in keys}}
    shards = {shard: save({k: state[k] for k in keys}) for shard, keys in halves.items()}
    return {"model.safetensors.index.json": json.dumps(index).encode(), **shards}


def in_parts(state: dict[str, Tensor]) -> dict[str, bytes]:
    content = torch_bytes(state)
    half = len(content) // 2
    return {"tiny.pt.part0": content[:half], "tiny.pt.part1": content[half:]}


LAYOUTS: dict[str, Callable[[dict[str, Tensor]], dict[str, bytes]]] = {
    "single": lambda state: {"model.safetensors": save(state)},
    "sharded": sharded,
    "bin": lambda state: {"pytorch_model.bin": torch_bytes(state)},
    "pt": lambda state: {"tiny.pt": torch_bytes(state)},
    "parts": in_parts,
}


@pytest.fixture
def register(monkeypatch) -> Iterator[Callable[[Card], Card]]:
    """Make a card known by its name for one test."""

    def add(card: Card) -> Card:
        catalogue = cards._Catalogue()
        catalogue.add(card, (card.name,))
        monkeypatch.setattr(cards, "_catalogue", lambda: catalogue)
        return card

    yield add


def same_parameters(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return set(ours) == set(theirs) and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_by_name(family, serve, register):
    """Each family in another layout; the model is the one its folder gives, and a second load needs no server."""
    layout = list(LAYOUTS)[FAMILIES.index(family) % len(LAYOUTS)]
    folder = GOLDEN / family
    reference = load(folder, device="cpu")
    files = repository(folder, layout)
    with serve(files) as fake:
        card = register(make_card(folder, files, tokenizer=reference.card.tokenizer, dtype=reference.card.dtype))
        assert same_parameters(load("tiny", device="cpu").module, reference.module)
        before = sum(fake.requests.values())
        assert card.name == load("tiny", device="cpu").card.name
        assert sum(fake.requests.values()) == before, "everything is cached, absent files too"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout, serve, register, home):
    folder = GOLDEN / "sh2_a"
    files = repository(folder, layout)
    fake = serve(files)
    card = register(make_card(folder, files))
    loaded = load("tiny", device="cpu")
    assert same_parameters(loaded.module, load(folder, device="cpu").module)
    snapshot = hub.fetch(card)  # links into the cache's blobs; as a folder it is as good as any
    assert same_parameters(load(snapshot, device="cpu").module, loaded.module)
    converted = list((home / "nexvar").glob("converted/*.safetensors"))
    assert len(converted) == (0 if layout in ("single", "sharded") else 1)
    assert not any("io.safetensors" in request for request in fake.requests)
    stamps = [p.stat().st_mtime_ns for p in converted]
    assert same_parameters(load("tiny", device="cpu").module, loaded.module)
    assert [p.stat().st_mtime_ns for p in converted] == stamps, "converted once"


def test_cut_connections_are_resumed(serve, monkeypatch, capfd):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    files = repository(GOLDEN / "sh2_a")
    fake = serve(files, cut_after=200_000, cuts=2)
    card = make_card(GOLDEN / "sh2_a", files)
    folder = hub.fetch(card)
    assert "etry" not in capfd.readouterr().err, "what resumes is no news"
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert any(not asked.startswith("bytes=0-") for asked in fake.ranges), "what had arrived was not fetched again"


def test_a_connection_that_stays_cut_is_one_line_and_resumes_later(serve):
    files = repository(GOLDEN / "sh2_a")
    fake = serve(files, cut_after=0, cuts=10**6)
    card = make_card(GOLDEN / "sh2_a", files)
    with pytest.raises(NexVarError, match="owner/tiny.*model.safetensors.*download failed.*run it again"):
        hub.fetch(card)
    fake.repositories["owner/tiny"].cuts = 0
    assert (hub.fetch(card) / "model.safetensors").is_file()


def test_a_size_that_lies(serve):
    files = repository(GOLDEN / "sh2_a")
    serve(files, claimed_size=len(files["model.safetensors"]) + 100)
    with pytest.raises(NexVarError, match="download failed"):
        hub.fetch(make_card(GOLDEN / "sh2_a", files))


def test_content_of_another_size_than_the_card_says(serve):
    files = repository(GOLDEN / "sh2_a")
    card = make_card(GOLDEN / "sh2_a", files)
    serve({**files, "model.safetensors": files["model.safetensors"][:-64]})
    with pytest.raises(NexVarError, match="bytes, the card says"):
        hub.fetch(card)


def test_content_of_another_hash_stays_where_it_is(serve, home, register):
    files = repository(GOLDEN / "sh2_a")
    card = register(make_card(GOLDEN / "sh2_a", files))
    changed = bytearray(files["model.safetensors"])
    changed[-1] ^= 1
    serve({**files, "model.safetensors": bytes(changed)}, etags={"model.safetensors": str(card.files[0].sha256)})
    for _ in range(2):
        with pytest.raises(NexVarError, match=f"sha256 is .*the card says {card.files[0].sha256}"):
            load("tiny", device="cpu")
    assert [p.read_bytes() for p in home.rglob("model.safetensors")] == [bytes(changed)]
    assert load("tiny", device="cpu", revision="main").card.name == "tiny"  # a revision of the user's choice


def test_a_file_is_hashed_once(serve, monkeypatch):
    files = repository(GOLDEN / "sh2_a")
    serve(files)
    calls = []
    original = hub.sha256
    monkeypatch.setattr(hub, "sha256", lambda path: (calls.append(path.name), original(path))[1])
    card = make_card(GOLDEN / "sh2_a", files)
    folder = hub.fetch(card)
    hub.fetch(card)
    assert calls == ["model.safetensors"]
    (folder / "model.safetensors").resolve().touch()  # changed since: looked at again
    hub.fetch(card)
    assert calls == ["model.safetensors"] * 2


def other_content(path: Path, keep: str) -> None:
    """Other bytes of the same size, and the old time of the last change: in the same file, or in a new one."""
    info, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    if keep == "name":
        path.with_name("new").write_bytes(content)
        path.with_name("new").replace(path)
    else:
        path.write_bytes(content)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


@pytest.mark.parametrize("keep", ["inode", "name"])
def test_a_file_that_was_changed_and_backdated_is_hashed_again(serve, keep):
    files = repository(GOLDEN / "sh2_a")
    serve(files)
    card = make_card(GOLDEN / "sh2_a", files)
    folder = hub.fetch(card)
    other_content((folder / "model.safetensors").resolve(), keep)
    with pytest.raises(NexVarError, match="the card says"):
        hub.fetch(card)


@pytest.mark.parametrize("keep", ["inode", "name"])
def test_converted_weights_that_were_changed_and_backdated_are_converted_again(serve, register, home, keep):
    folder = GOLDEN / "sh2_a"
    files = repository(folder, "pt")
    serve(files)
    register(make_card(folder, files))
    sound = load("tiny", device="cpu")
    (converted,) = (home / "nexvar").glob("converted/*.safetensors")
    other_content(converted, keep)
    assert same_parameters(load("tiny", device="cpu").module, sound.module)


@pytest.mark.parametrize("damage", ["a folder", "a pipe", "bytes", "a link to itself", "huge"])
def test_a_broken_stamp_costs_hashing_again_and_no_word(serve, home, damage):
    files = repository(GOLDEN / "sh2_a")
    serve(files)
    card = make_card(GOLDEN / "sh2_a", files)
    hub.fetch(card)
    (stamp,) = (home / "nexvar" / "verified").iterdir()
    sound = stamp.read_bytes()
    stamp.unlink()
    {
        "a folder": stamp.mkdir,
        "a pipe": lambda: os.mkfifo(stamp),
        "bytes": lambda: stamp.write_bytes(b"\xff\x00\x1b"),
        "a link to itself": lambda: stamp.symlink_to(stamp),
        "huge": lambda: (stamp.touch(), os.truncate(stamp, 1 << 40)),
    }[damage]()
    hub.fetch(card)
    assert damage == "a folder" or stamp.read_bytes() == sound


def test_a_server_with_another_revision(serve):
    files = repository(GOLDEN / "sh2_a")
    serve(files, commit="d00d" * 10)
    with pytest.raises(NexVarError, match="the server sent revision d00d.*not c0ffee"):
        hub.fetch(make_card(GOLDEN / "sh2_a", files))


def test_config_of_another_model(serve, register):
    """The downloaded config.json is compared with the card, not used."""
    files = repository(GOLDEN / "sh2_a")
    card = register(make_card(GOLDEN / "sh2_a", files))
    config = json.loads(files["config.json"])
    fake = serve({**files, "config.json": json.dumps({**config, "eps": 1e-3}).encode()})
    with pytest.raises(NexVarError, match=r"eps is 0.001, the card says 1e-06.*load the folder itself"):
        load(card.name, device="cpu")
    placeholder = {"model_type": "something", "auto_map": {"AutoModel": "evil.Evil"}}
    fake.repositories["owner/tiny"].files["config.json"] = json.dumps(placeholder).encode()


def test_a_place_holder_config_is_ignored(serve, register):
    files = repository(GOLDEN / "sh2_a")
    card = register(make_card(GOLDEN / "sh2_a", files))
    fake = serve({**files, "config.json": b'{"auto_map": {"AutoModel": "evil.Evil"}}', "evil.py": b"raise SystemExit"})
    load(card.name, device="cpu")
    assert not any("evil" in request for request in fake.requests)


@pytest.mark.parametrize("shard", ["../evil.safetensors", "/etc/passwd", "a\\b.safetensors", "evil.py", ""])
def test_an_index_that_climbs(shard, serve, home):
    files = repository(GOLDEN / "sh2_a", "sharded")
    card = dataclasses.replace(make_card(GOLDEN / "sh2_a", files), files=(File("model.safetensors.index.json"),))
    index = {"weight_map": {"norm.scale": shard}}
    fake = serve({**files, "model.safetensors.index.json": json.dumps(index).encode(), "evil.py": b"1"})
    with pytest.raises(NexVarError, match="is not a weight file of this folder"):
        hub.fetch(card)
    assert not any("evil" in request or "passwd" in request for request in fake.requests)


@pytest.mark.parametrize("commit", ["../../../evil", "/tmp/evil"])
def test_a_commit_that_climbs(commit, serve, home):
    files = repository(GOLDEN / "sh2_a")
    serve(files, commit=commit)
    with pytest.raises(NexVarError):
        hub.fetch(make_card(GOLDEN / "sh2_a", files))
    outside = [p for p in home.rglob("*") if p.is_file() and not p.is_relative_to(home / "hf" / "models--owner--tiny")]
    assert not [p for p in outside if "hf/.locks" not in str(p) and "CACHEDIR" not in p.name], outside


def test_gone_gated_unknown(serve):
    files = repository(GOLDEN / "sh2_a")
    card = make_card(GOLDEN / "sh2_a", files)
    fake = serve({"config.json": b"{}"})
    with pytest.raises(NexVarError, match="no such file"):
        hub.fetch(card)
    with pytest.raises(NexVarError, match="no such revision"):
        hub.fetch(card, revision="ab" * 20)
    with pytest.raises(NexVarError, match="no such repository"):
        hub.fetch(dataclasses.replace(card, repo="owner/other"))
    with pytest.raises(NexVarError, match="no weights: none of"):
        hub.fetch(dataclasses.replace(card, files=()))
    fake.repositories["owner/tiny"].gated = True
    with pytest.raises(NexVarError, match="gated.*licence"):
        hub.fetch(card, revision="main")


def test_a_card_without_a_list_of_files_finds_the_weights(serve, register):
    files = repository(GOLDEN / "sh2_a", "sharded")
    serve(files)
    register(dataclasses.replace(make_card(GOLDEN / "sh2_a", files), files=(), revision=None))
    assert same_parameters(load("tiny", device="cpu").module, load(GOLDEN / "sh2_a", device="cpu").module)


def test_no_server_is_one_line_at_once(serve, monkeypatch, capfd):
    files = repository(GOLDEN / "sh2_a")
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    serve(files).__exit__()
    with pytest.raises(NexVarError, match="127.0.0.1:.*cannot be reached.*nexvar fetch tiny"):
        hub.fetch(make_card(GOLDEN / "sh2_a", files))
    assert not waits and capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "address", "says"),
    [
        ("HF_ENDPOINT", "https://hub.invalid", "hub.invalid cannot be reached"),
        ("HTTPS_PROXY", "http://proxy.invalid:3128", "proxy.invalid:3128 cannot be reached"),
        ("HTTPS_PROXY", "proxy.invalid:3128", "proxy.invalid:3128 cannot be reached"),
        ("ALL_PROXY", "socks5://proxy.invalid", "proxy.invalid cannot be reached"),
        ("HF_ENDPOINT", "nothing", "nothing cannot be reached"),
        ("HF_ENDPOINT", "http://[::1", "HF_ENDPOINT"),
        ("HF_ENDPOINT", "http://127.0.0.1:99999", "HF_ENDPOINT"),
    ],
)
def test_a_server_that_cannot_be_resolved_is_one_line_and_nothing_else_is_printed(name, address, says, home):
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("HF_")}
    env = {**kept, "HF_HOME": str(home / "hf"), name: address}
    code = "from nexvar.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "fetch", "hyenadna_tiny_1k"], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stdout == "" or says == "HF_ENDPOINT"  # the library prints that its own import failed
    assert says in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_branch_that_was_fetched_before_serves_without_a_server(serve):
    files = repository(GOLDEN / "sh2_a")
    card = make_card(GOLDEN / "sh2_a", files)
    fake = serve(files)
    folder = hub.fetch(card, revision="main")
    fake.__exit__()
    hub._reach.cache_clear()
    assert hub.fetch(card, revision="main") == folder


def test_fetch_on_the_command_line(serve, register, home):
    """Downloads, converts, prints the folder; loading needs no server afterwards."""
    from typer.testing import CliRunner

    from nexvar.cli import app

    files = repository(GOLDEN / "sh2_a", "pt")
    fake = serve(files)
    register(make_card(GOLDEN / "sh2_a", files))
    done = CliRunner().invoke(app, ["fetch", "tiny"])
    assert done.exit_code == 0 and COMMIT in done.output
    assert list((home / "nexvar").glob("converted/*.safetensors"))
    asked = sum(fake.requests.values())
    load("tiny", device="cpu")
    assert sum(fake.requests.values()) == asked


SCRIPT = """
from nexvar import cards
from nexvar.weights import hub
from nexvar.errors import NexVarError
for repo in ("owner/tiny", "owner/other"):
    card = cards.Card(
        name="tiny", architecture="-", tokenizer="byte", objective="causal", context=1, parameters=1, licence="-",
        citation="-", parity="-", parity_note="-", config={}, repo=repo, revision="c0ffee" * 6 + "beef",
        files=(cards.File("model.safetensors"),),
    )
    try:
        print(hub.fetch(card))
    except NexVarError as error:
        print(error)
"""


def test_environment(home):
    """HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE, as a user sets them: in the environment of a process."""
    with FakeHub({"owner/tiny": Repository({"model.safetensors": b"weights", "config.json": b"{}"})}) as fake:

        def run(**extra: str) -> list[str]:
            env = {**os.environ, "HF_HOME": str(home / "elsewhere"), "HF_ENDPOINT": fake.endpoint, **extra}
            env.pop("HF_HUB_CACHE", None)
            done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=200)
            return done.stdout.strip().splitlines()

        folder, other = run()
        assert folder.startswith(str(home / "elsewhere")) and folder.endswith(COMMIT)
        assert "no such repository" in other
        asked = sum(fake.requests.values())
        again, other = run(HF_HUB_OFFLINE="1")
        assert again == folder
        assert "not in the cache, and offline" in other
        assert sum(fake.requests.values()) == asked


def test_a_card_with_weights_of_its_own_needs_no_hub():
    own = [c for c in cards.all_cards().values() if c.weights]
    for card in own:
        with pytest.raises(NexVarError, match="ships with the package"):
            hub.fetch(card)

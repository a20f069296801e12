"""Architectures and cards of other packages: found when asked for, unable to replace NexVar's own or to break them."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexvar import cards, models, plugins
from nexvar.errors import NexVarError
from nexvar.weights import footprint
from nexvar.weights.load import load
from outside import TOY, install, python, write_metadata

OWN = tuple(cards.own_cards())
CARD = (TOY / "nexvar_toy" / "cards" / "toy_tiny.toml").read_text()
MIXER = (TOY / "nexvar_toy" / "mixer.py").read_text()


def look_again() -> None:
    for cached in (plugins.offers, cards._catalogue, models._offered, models.get):
        cached.cache_clear()
    plugins._said.clear()
    for name in [n for n in sys.modules if n.partition(".")[0] in ("nexvar_toy", "other")]:
        del sys.modules[name]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's path, to install into; what is installed there is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    look_again()
    yield tmp_path / "site"
    monkeypatch.undo()
    look_again()


def other_package(place: Path, files: dict[str, str], name: str = "other-package", package: str = "other",
                  architecture: str = "other_mixer") -> None:  # fmt: skip
    """A package of cards and, if there is a mixer.py among its files, an architecture."""
    for path, text in files.items():
        (place / package / path).parent.mkdir(parents=True, exist_ok=True)
        (place / package / path).write_text(text)
    groups = {plugins.CARDS: {"cards": f"{package}.cards"}}
    if "mixer.py" in files:
        groups[plugins.MODELS] = {architecture: f"{package}.mixer"}
    write_metadata(place, name, groups)
    importlib.invalidate_caches()  # Python looks at a folder again when its time of change differs


def hub_card(**changes: object) -> str:
    """A card of a checkpoint on the hub, as TOML."""
    values = {"name": "other_tiny", "architecture": "toy_mixer", "aliases": [], "repo": "someone/other",
              "revision": "0" * 40, **changes}  # fmt: skip
    lines = [line for line in CARD.splitlines() if line.split(" = ")[0] not in (*values, "weights")]
    said = [f"{key} = {json.dumps(value)}" for key, value in values.items()]  # which is TOML, too
    return "\n".join([*said, *lines])


# -- the toy package, as a user meets it


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(TOY, tmp_path_factory.mktemp("site"))


def test_an_installed_model_scores_through_the_command_line(installed, tmp_path):
    (tmp_path / "g.fa").write_text(">chr1\n" + "ACGTTGCAGGCT" * 40 + "\n")
    out = tmp_path / "out.tsv"
    command = ["-c", "from nexvar.cli import main; main()", "score", "chr1:241A>C", "chr1:242C>T"]
    options = ["--fasta", str(tmp_path / "g.fa"), "--model", "toy", "-o", str(out)]
    done = python(*command, *options, target=installed)
    assert done.returncode == 0, done.stderr
    header, *rows = (line.split("\t") for line in out.read_text().splitlines() if not line.startswith("##"))
    llr = [float(row[header.index("LLR")]) for row in rows]
    assert len(llr) == 2 and all(abs(value) > 1e-4 for value in llr) and llr[0] != llr[1]


def test_an_installed_model_is_listed_with_its_package_and_not_imported(installed):
    code = "import sys; from nexvar.cli import app; app(['models'], standalone_mode=False); print(set(sys.modules))"
    done = python("-c", code, target=installed)
    table, loaded = done.stdout.rsplit("\n", 2)[:2]
    assert "toy_tiny" in table and "(package nexvar-toy)" in table and "nexvar_mito" in table
    assert "'nexvar_toy" not in loaded and "'torch'" not in loaded and done.stderr == ""


def test_the_contract_holds_for_the_toy_package(installed):
    done = python("-m", "nexvar.evals.contract", "nexvar-toy", target=installed)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) > 15 and all(line.startswith(("ok ", "skipped ")) for line in lines)


def test_an_installed_model_is_loaded_by_name_alias_and_folder(place, tmp_path):
    install(TOY, place)
    loaded = load("Toy", device="cpu")
    assert loaded.card.name == "toy_tiny" and loaded.card.package == "nexvar-toy"
    assert cards.get("toy_tiny") is cards.get("toy") and models.get("toy_mixer").package == "nexvar-toy"
    assert models.infer({"model_type": "toy_mixer"}) == "toy_mixer"
    assert footprint.footprint(loaded.card).weights == 4 * loaded.card.parameters


# -- NexVar's own stay what they are


def test_own_cards_come_first_and_alone_are_chosen_unasked(place):
    other_package(place, {"cards/a.toml": hub_card(name="aaa", architecture="striped_hyena2", parameters=10**8)})
    assert tuple(cards.all_cards())[: len(OWN)] == OWN and "aaa" in cards.all_cards()
    assert tuple(cards.own_cards()) == OWN
    assert all(card.package is None for kind in ("causal", "masked") for card in footprint.as_they_are(kind))


@pytest.mark.parametrize("name", ["nexvar_mito", "NexVar_Mito", "evo2_7b"])
def test_a_card_that_takes_an_own_name_is_left_out_with_a_line(place, caplog, name):
    other_package(place, {"cards/x.toml": hub_card(name=name)})
    before = cards.own_cards()["nexvar_mito" if "ito" in name else "nexvar_7b"]
    assert cards.get(name) is before and tuple(cards.all_cards()) == OWN
    (line,) = caplog.messages
    assert "other-package" in line and name in line


def test_an_alias_or_repository_that_is_an_own_name_is_no_name(place, caplog):
    changes = {"aliases": ["evo2_7b", "free"], "repo": "arcinstitute/evo2_7b"}
    other_package(place, {"cards/x.toml": hub_card(**changes)})
    for name in ("evo2_7b", "arcinstitute/evo2_7b"):
        assert cards.get(name).package is None
    assert cards.get("free") is cards.get("other_tiny") and cards.get("free").package == "other-package"
    (line,) = caplog.messages
    assert "other-package" in line and "evo2_7b" in line


def test_an_architecture_cannot_take_an_own_name(place, caplog):
    other_package(place, {"mixer.py": "raise SystemExit(3)", "cards/x.toml": hub_card()}, architecture="genos")
    assert models.get("genos").package is None and models.names() == models.ARCHITECTURES
    (line,) = caplog.messages
    assert "other-package" in line and "genos" in line


# -- what is broken is one line


BAD_CARDS = {
    "no TOML": "name = ",
    "nothing": "",
    "a deep one": "x = " + "[" * 5000,
    "an unknown field": hub_card(remote_code=True),
    "a package": hub_card(package="nexvar"),
    "a folder": hub_card(folder="/etc"),
    "no name": hub_card().replace("name = ", "called = "),
    "a name of control characters": hub_card(name="a\x1b[2J"),
    "a name with spaces": hub_card(name="a b"),
    "a name that is a path": hub_card(name="../a"),
    "a number as name": hub_card(name=3),
    "a text as number": hub_card(context="many"),
    "a truth as number": hub_card(context=True),
    "no context": hub_card(context=0),
    "an objective": hub_card(objective="both"),
    "a dtype": hub_card(dtype="int3"),
    "no repository": hub_card(repo="x"),
    "a branch": hub_card(revision="main"),
    "weights that are absent": CARD,
    "weights elsewhere": CARD.replace("toy_tiny.safetensors", "../../secret.safetensors"),
    "weights at a path": CARD.replace("toy_tiny.safetensors", "/etc/passwd"),
    "a file elsewhere": hub_card() + '\n[[files]]\nname = "../x"\n',
    "a checksum": hub_card() + '\n[[files]]\nname = "x"\nsha256 = "abc"\n',
    "a file without a name": hub_card() + "\n[[files]]\nsize = 3\n",
    "oracles elsewhere": hub_card() + '\n[oracles]\nfile = "/etc/passwd"\n',
}


@pytest.mark.parametrize("text", BAD_CARDS.values(), ids=list(BAD_CARDS))
def test_a_bad_card_is_one_line_and_the_others_stay(place, caplog, text):
    other_package(place, {"cards/bad.toml": text, "cards/good.toml": hub_card(name="good")})
    assert tuple(cards.all_cards()) == (*OWN, "good")
    (line,) = caplog.messages
    assert "other-package" in line and "bad.toml" in line and line.isprintable() and len(line) < 520
    with pytest.raises(NexVarError, match="other-package"):
        cards.get("bad")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * 2_000_000], ids=["no UTF-8", "too long"])
def test_a_card_file_that_cannot_be_read_is_one_line(place, caplog, content):
    other_package(place, {"cards/good.toml": hub_card(name="good")})
    (place / "other" / "cards" / "bad.toml").write_bytes(content)
    assert tuple(cards.all_cards()) == (*OWN, "good")
    assert len(caplog.messages) == 1 and "other-package" in caplog.text


@pytest.mark.parametrize("target", ["other.absent", "absent.cards", "other.cards:x", "sys", "other/cards", ""])
def test_an_entry_point_that_names_no_folder_is_one_line(place, caplog, target):
    (place / "other").mkdir(parents=True)
    write_metadata(place, "other-package", {plugins.CARDS: {"cards": target}})
    assert tuple(cards.all_cards()) == OWN
    assert len(caplog.messages) == 1 and "other-package" in caplog.text


@pytest.mark.parametrize("metadata", ["[nexvar.cards]\nno sign of equality\n", "[nexvar.cards\n", "\x00[nexvar.cards]"])
def test_metadata_that_is_damaged_breaks_nothing(place, metadata):
    write_metadata(place, "other-package", {})
    next(place.glob("*.dist-info")).joinpath("entry_points.txt").write_text(metadata)
    assert tuple(cards.all_cards()) == OWN and models.names() == models.ARCHITECTURES


BAD_MODULES = {
    "does not parse": "def",
    "does not import": "import no_such_module",
    "ends Python": "raise SystemExit(3)",
    "is empty": "",
    "has no Model": MIXER.replace("class Model(", "class Modell("),
    "has no convert": MIXER.replace("def convert(", "def converted("),
    "has no KEEP_FLOAT32": MIXER.replace("KEEP_FLOAT32", "KEEP"),
    "has another base": MIXER.replace("class Model(GenomicModel)", "class Model(nn.Module)"),
}


@pytest.mark.parametrize("module", BAD_MODULES.values(), ids=list(BAD_MODULES))
def test_a_module_that_breaks_the_contract_is_the_error_of_who_asks_for_it(place, caplog, module):
    files = {"mixer.py": module, "cards/x.toml": hub_card(name="x", architecture="other_mixer")}
    other_package(place, files)
    assert tuple(cards.all_cards()) == (*OWN, "x") and "other_mixer" in models.names()
    assert caplog.messages == [], "nothing was asked of it"
    with pytest.raises(NexVarError, match="other-package.*other_mixer"):
        models.get("other_mixer")
    with pytest.raises(NexVarError, match="other-package"):
        next(footprint.settings(cards.get("x")))
    assert models.infer({"model_type": "mixtral"}) == "genos" and models.infer({"model_type": "none"}) is None
    assert "other-package" in caplog.text


def test_a_matches_that_fails_is_one_line(place, caplog):
    raising = MIXER.replace('return official.get("model_type") == "toy_mixer"', "raise RuntimeError('no\\nway')")
    other_package(place, {"mixer.py": raising, "cards/x.toml": hub_card()})
    assert models.infer({"model_type": "none"}) is None and models.infer({}) is None
    assert len(caplog.messages) == 1 and "other-package" in caplog.text and "\n" not in caplog.messages[0]


def test_a_name_of_two_packages_is_nobodys(place, caplog):
    files = {"mixer.py": MIXER, "cards/x.toml": hub_card(name="x", aliases=["y"])}
    other_package(place, files)
    other_package(place, {**files, "cards/z.toml": hub_card(name="z", repo="a/z")}, "another-package", "another")
    assert tuple(cards.all_cards()) == (*OWN, "z")
    for ask in (lambda: cards.get("x"), lambda: cards.get("y"), lambda: models.get("other_mixer")):
        with pytest.raises(NexVarError, match="another-package and other-package"):
            ask()
    assert all("another-package" in line for line in caplog.messages)


def test_fits_lists_a_card_whose_architecture_is_broken(place, capsys, monkeypatch):
    from nexvar.cli.checkpoints import models as command

    other_package(place, {"mixer.py": "", "cards/x.toml": hub_card(name="x", architecture="other_mixer")})
    few = {name: cards.get(name) for name in ("nexvar_mito", "x")}
    monkeypatch.setattr(cards, "all_cards", lambda: few)
    command(fits=True, length=None)
    mito, x = capsys.readouterr().out.splitlines()[1:]
    assert mito.startswith("nexvar_mito") and x.startswith("x ") and "  no: " in x and "package other-package" in x


def test_the_same_line_is_said_once(place, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            plugins.warn("p", "something")
    assert caplog.messages == ["nexvar: package p: something"]


def test_a_checkpoint_folder_cannot_say_that_it_is_a_packages(tmp_path):
    from nexvar.weights.load import save

    loaded = load("nexvar_mito", device="cpu")
    card = {"package": "nexvar", "folder": "/etc"}
    save(tmp_path / "m", loaded.module, architecture="striped_hyena2", config=loaded.module.config, card=card)
    with pytest.raises(NexVarError, match="unknown fields"):
        load(tmp_path / "m")
    assert {f.name for f in dataclasses.fields(cards.Card)} >= {"package", "folder"}

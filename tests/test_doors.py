"""Whatever ends a program is one line and an exit code: faults, a full machine, signals, closed streams."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

import interface
from nexvar import doors
from nexvar.doors import Fault
from nexvar.errors import NexVarError
from places import ROOT

VERBS = [path for path, command in interface.commands() if not hasattr(command, "commands")]
SOURCES = sorted(p.relative_to(ROOT / "src") for p in (ROOT / "src").rglob("*.py") if p.name != "doors.py")
MODULES = [".".join(p.with_suffix("").parts).removesuffix(".__main__") for p in SOURCES
           if '__name__ == "__main__"' in (ROOT / "src" / p).read_text(encoding="utf-8")]  # fmt: skip
PROGRAMS = [["-c", "from nexvar.cli import main; main()"], *(["-m", name] for name in MODULES)]
GIVEN = {"nexvar.train": ["a.toml"], "nexvar.train.ship": ["a", "b"], "nexvar.evals.parity": ["a"],
         "nexvar.evals.contract": ["a"]}  # fmt: skip


class Panic(BaseException):
    """As those of libraries in Rust: no Exception."""


def deep():
    return deep()


def ended(function, capfd) -> tuple[int, str]:
    """Exit code and standard error of a program that does ``function``."""

    def main():
        doors.run(function)

    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capfd.readouterr().err


def raising(error):
    def function():
        raise error

    return function


@pytest.mark.parametrize("error", [
    TypeError("'int' object is not\nsubscriptable"), KeyError("x"), AssertionError(), RuntimeError("\x1b]0;title\x07"),
    Panic("called `Option::unwrap()` on a `None` value"), FileNotFoundError(2, "No such file", "x"), EOFError(),
    StopIteration(), UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates"), ValueError("x" * 10_000),
], ids=lambda e: type(e).__name__)  # fmt: skip
def test_a_fault_of_ours_says_so_in_one_line(error, capfd, monkeypatch):
    monkeypatch.delenv("NEXVAR_DEBUG", raising=False)
    code, said = ended(raising(error), capfd)
    assert code == 3 and said.count("\n") == 1 and len(said) < 520 and said.strip().isprintable()
    assert "this is a fault of NexVar" in said and type(error).__name__ in said and "report" in said
    monkeypatch.setenv("NEXVAR_DEBUG", "1")
    code, said = ended(raising(error), capfd)
    assert code == 3 and said.startswith("Traceback") and "this is a fault of NexVar" in said


def test_a_fault_names_its_place(capfd):
    from nexvar import arguments

    code, said = ended(lambda: arguments._name(5), capfd)  # what no caller does
    assert code == 3 and said.startswith("nexvar: nexvar/arguments.py:")


@pytest.mark.parametrize(("error", "words"), [
    (NexVarError("bad", where="x:1", fix="do"), "nexvar: x:1: bad: do"),
    (MemoryError(), "not enough memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 bytes"), "not enough memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
    (ImportError("libtorch.so: failed to map segment from shared object", name="torch"), "not enough memory"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
    (OSError(errno.EMFILE, "Too many open files", "ref.fa"), "ref.fa: Too many open files"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "y" * 300), "File name too long"),
    (ModuleNotFoundError("No module named 'pysam'", name="pysam"), "pysam cannot be imported"),
])  # fmt: skip
def test_what_is_no_fault_of_ours_has_its_own_words(error, words, capfd):
    code, said = ended(raising(error), capfd)
    assert code == 2 and words in said and said.count("\n") == 1 and "fault of NexVar" not in said


def test_an_endless_recursion_is_one_line(capfd):
    code, said = ended(deep, capfd)
    assert code == 3 and "RecursionError" in said and said.count("\n") == 1


def test_a_run_with_parts_says_that_they_are_kept(capfd):
    def function():
        with doors.resumable():
            raise KeyError("x")

    code, said = ended(function, capfd)
    assert code == 3 and doors.KEPT in said
    assert doors.KEPT not in ended(raising(KeyError("x")), capfd)[1]  # another run's


@pytest.mark.parametrize("error", [NexVarError("a", where="b", fix="c"), KeyError("x"), Panic("y"), MemoryError()])
def test_errors_travel_between_processes(error):
    there = doors.explain(error)
    here = doors.unpacked(pickle.loads(pickle.dumps(doors.packed(error))))
    assert (str(here), type(here)) == (str(there), type(there))
    assert isinstance(here, Fault) == isinstance(error, (KeyError, Panic))


# -- whole programs


def start(words, **options) -> subprocess.Popen:
    """A program that hears signals, as one in a terminal does."""
    hear = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *words], preexec_fn=hear, cwd=ROOT, **pipes | options)


@pytest.mark.parametrize("words", PROGRAMS, ids=lambda w: w[1][:20])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_program_can_be_stopped_while_it_imports(words, number, tmp_path):
    """The signal comes when the first library is on its way: in the middle of the imports."""
    (tmp_path / "numpy.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\nwhile True: pass\n")
    given = GIVEN.get(words[1], ["embed", "--fasta", "x.fa", "-o", "x.npz"])
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    process = start([*words, *given], env=environment)
    _, err = process.communicate(timeout=60)
    expected = (130, "nexvar: interrupted\n") if number == signal.SIGINT else (143, "nexvar: terminated\n")
    assert (process.returncode, err) == expected


@pytest.mark.parametrize("wait", [0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0])
def test_an_interrupt_at_any_moment_is_one_line(wait, tmp_path):
    data = ROOT / "src" / "nexvar" / "data"
    words = ["score", "--vcf", data / "mtdna_labelled.vcf", "--fasta", data / "chrM_rCRS.fa", "-o", tmp_path / "o.vcf"]
    process = start(["-m", "nexvar", *map(str, words)])
    time.sleep(wait)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    lines = [line for line in err.splitlines() if "nexvar: " in line]
    assert process.returncode == 130 and len(lines) == 1 and "interrupted" in lines[0] and "Traceback" not in err


@pytest.mark.parametrize("stream", [">&-", "> /dev/full"])
@pytest.mark.parametrize("path", VERBS)
def test_help_that_nobody_can_read_is_one_line(path, stream):
    command = f"exec {sys.executable} -m {path} --help {stream}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (
        done.returncode == 2 and done.stderr.startswith("nexvar: standard output: it ") and done.stderr.count("\n") == 1
    )


def test_a_reader_that_has_enough_is_no_error():
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m nexvar models | head -1"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.startswith("name") and done.stderr == ""


@pytest.mark.parametrize("closed", ["2>&-", "2> /dev/full", "<&-"])
def test_no_stream_is_needed_to_fail(closed):
    command = f"exec {sys.executable} -m nexvar score --bogus {closed}"
    assert subprocess.run(["bash", "-c", command], capture_output=True, timeout=60).returncode == 2


def test_a_closed_output_is_found_before_anything_is_computed():
    for words in (
        "generate --prompt ACGT",
        "fill --fasta none.fa --model none",
        "score --vcf none.vcf --fasta none.fa -o -",
    ):
        done = subprocess.run(
            ["bash", "-c", f"exec {sys.executable} -m nexvar {words} >&-"], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (2, "nexvar: standard output: it is closed: name a file with -o\n")


@pytest.mark.parametrize(("given", "there"), [(None, doors.SPINS), ("7", "7")])
def test_threads_that_wait_sleep_soon_unless_the_user_says_otherwise(given, there):
    """libgomp reads the variable when torch is imported: a program says it before."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {} if given is None else {"GOMP_SPINCOUNT": given}
    code = "import os, sys; from nexvar import doors; doors.catch_signals(); assert 'torch' not in sys.modules"
    code += "; print(os.environ['GOMP_SPINCOUNT'])"
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == there

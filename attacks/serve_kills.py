"""Kill -9 a server again and again while it scores a file; its results must be the command line's, byte for byte.

    python attacks/serve_kills.py --kills 30          # takes about ten minutes on two cores

A real `nexvar serve` with nexvar_mito scores every SNV of 667 bases of human mtDNA (2,002 alleles). It is
killed at a random moment, and started again on the same folder, until the job is done; then the job is deleted and
given anew, until there were enough kills. Prints one line for each life and one for each result; exits with 1 if a byte
differs. Loopback only.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib import resources
from pathlib import Path

OPTIONS = {"window": 64, "strand": "forward"}
OUTPUTS = ("vcf.gz", "vcf.gz.tbi", "tsv", "parquet")
FIRST, LAST = 3000, 3667  # 0-based


class Life:
    """One server, from its start to its kill."""

    def __init__(self, data: Path) -> None:
        command = [sys.executable, "-m", "nexvar", "serve", "--port", "0", "--data-dir", str(data)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.search(r"http://\S+", said)
        if found is None:
            raise SystemExit(f"the server does not start: {said}{self.process.stdout.read()}")
        self.address = found[0]

    def ask(self, path: str, body: bytes | None = None, method: str | None = None, **headers: str) -> bytes:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.address + path, body, names, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def submit(self, vcf: bytes) -> str:
        file = json.loads(self.ask("/api/v1/files", vcf, X_Filename="cohort.vcf"))["id"]
        body = {"file": file, "genome": "chrM", "options": OPTIONS, "outputs": ["vcf.gz", "tsv", "parquet"]}
        job = json.loads(self.ask("/api/v1/jobs", json.dumps(body).encode(), Content_Type="application/json"))
        return f"/api/v1/jobs/{job['id']}"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def write_inputs(folder: Path) -> bytes:
    """The genome and its variants, as the command line wants them."""
    fasta = (resources.files("nexvar") / "data" / "chrM_rCRS.fa").read_text()
    (folder / "chrM_rCRS.fa").write_text(fasta)
    bases = "".join(line for line in fasta.splitlines() if not line.startswith(">"))
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for pos0 in range(FIRST, LAST):
        others = ",".join(base for base in "ACGT" if base != bases[pos0])
        lines.append(f"chrM\t{pos0 + 1}\t.\t{bases[pos0]}\t{others}\t.\t.\t.")
    vcf = folder / "cohort.vcf"
    vcf.write_text("\n".join(lines) + "\n")
    return vcf.read_bytes()


def expected(folder: Path) -> dict[str, bytes]:
    """What the command line writes."""
    command = "score --vcf cohort.vcf --fasta chrM_rCRS.fa --model nexvar_mito --window 64 --strand forward"
    outputs = [word for each in OUTPUTS if each != "vcf.gz.tbi" for word in ("-o", f"cohort.scored.{each}")]
    subprocess.run([sys.executable, "-m", "nexvar", *command.split(), *outputs], cwd=folder, check=True)
    return {each: (folder / f"cohort.scored.{each}").read_bytes() for each in OUTPUTS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="nexvar-kills-") as name:
        folder = Path(name)
        vcf = write_inputs(folder)
        right = expected(folder)
        kills = results = 0
        seconds = 0.0  # of a job that nobody kills: the first one
        place: str | None = None
        while kills < args.kills or place is not None:
            life = Life(folder / "data")
            try:
                place = place or life.submit(vcf)
                began = time.monotonic()
                left = rng.uniform(0, seconds / 2) if seconds and kills < args.kills else 3600
                while time.monotonic() < began + left:
                    job = json.loads(life.ask(place))
                    if job["state"] in ("done", "failed"):
                        break
                    time.sleep(0.05)
                job = json.loads(life.ask(place))
                if job["state"] in ("queued", "running"):
                    kills += 1
                    print(f"kill {kills} at {job['done']:,} of {job['total'] or 0:,} alleles", flush=True)
                    continue
                if job["state"] == "failed":
                    raise SystemExit(f"the job failed: {job['error']}")
                for each, content in right.items():
                    if life.ask(f"{place}/result/{each}") != content:
                        print(f"{each} differs after {kills} kills")
                        return 1
                results += 1
                seconds = seconds or time.monotonic() - began
                print(f"result {results}: the bytes of the command line, {kills} kills so far", flush=True)
                life.ask(place, method="DELETE")
                place = None
            finally:
                life.kill()
    print(f"{kills} kills, {results} results, all as the command line writes them")
    return 0


if __name__ == "__main__":
    sys.exit(main())

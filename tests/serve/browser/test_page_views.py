"""VCF jobs, generation, models, tracks; a key, a server that goes away, small screens, names for screen readers."""

from __future__ import annotations

import gzip
import os
import re
import signal
from pathlib import Path

import pytest

from browsing import HOSTILE, MASKED, Served, watching
from nexvar import NexVar
from nexvar.evals.demo import shipped

VIEWS = {
    "locus": "#/locus?genome=chrM&region=chrM:14400-14560&variant=chrM:14484T%3EC",
    "vcf": "#/vcf?genome=chrM",
    "generate": "#/generate?genome=chrM",
    "models": "#/models?genome=chrM",
}


def records(count: int, odd: str = "") -> str:
    """SNVs of human mtDNA, one a base; ``odd``: lines before them."""
    sequence = "".join(shipped("chrM_rCRS.fa").read_text().split("\n")[1:])
    other = {"A": "G", "G": "A", "C": "T", "T": "C"}
    snvs = [f"chrM\t{i + 1}\t.\t{base}\t{other[base]}\t.\t.\t.\n" for i, base in enumerate(sequence) if base in other]
    head = "##fileformat=VCFv4.3\n##contig=<ID=chrM,length=16569>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    return head + odd + "".join(snvs[1000 : 1000 + count])


def upload(page, path: Path):
    page.locator("body[data-ready]").wait_for()
    page.get_by_label("choose a file").set_input_files(path)
    return page.locator(".job").first


def test_a_vcf_survives_a_reload_and_comes_back_scored(watched, tmp_path):
    odd = f"chrM\t10\t{HOSTILE}\tA\tG\t.\t.\t.\n"  # the genome has T here
    (tmp_path / "sample.vcf").write_text(records(80, odd))
    page = watched.open(VIEWS["vcf"])
    upload(page, tmp_path / "sample.vcf")
    running = page.locator(".job.running, .job.queued")
    running.wait_for()
    page.reload()
    running.get_by_text("sample.vcf").wait_for()
    done = page.locator(".job.done")
    done.wait_for(timeout=120_000)
    assert "81 alleles in 81 records = 80 scored + 1 skipped (1 REF_MISMATCH)" in done.inner_text()
    with page.expect_download() as found:
        done.get_by_role("link", name="Download vcf.gz").click()
    with gzip.open(found.value.path(), "rt") as lines:
        scored = [line for line in lines if not line.startswith("#")]
    assert len(scored) == 81 and scored[0].split("\t")[2] == HOSTILE
    pos, ref, alt = (scored[40].split("\t")[column] for column in (1, 3, 4))
    row = next(NexVar("nexvar_mito").score_variants([f"chrM:{pos}{ref}>{alt}"], shipped("chrM_rCRS.fa")))
    said = dict(part.split("=") for part in scored[40].split("\t")[7].split(";"))
    assert float(said["NEXVAR_LLR"]) == pytest.approx(row.llr, abs=2e-5)
    done.get_by_role("button", name="Open in browser").click()
    page.locator("#igv").get_by_text("sample.vcf").wait_for()
    assert page.locator("img").count() == 0
    watched.open(VIEWS["vcf"])
    done.get_by_role("button", name="Delete").click()
    page.get_by_text("No jobs yet").wait_for()


def test_what_is_no_vcf_is_refused_in_words(watched, tmp_path):
    watched.allowed.append("status of 4")
    (tmp_path / "notes.vcf").write_text("dear diary\n")
    page = watched.open(VIEWS["vcf"])
    upload(page, tmp_path / "notes.vcf")
    alert = page.locator("#view-vcf").get_by_role("alert").first
    alert.wait_for(timeout=60_000)
    assert "not a VCF" in alert.inner_text()
    for job in page.locator(".job").all():
        job.get_by_role("button", name="Delete").click()


def test_bases_come_one_by_one_can_be_stopped_and_the_prompt_stays(watched):
    watched.allowed.append("status of 4")
    page = watched.open(VIEWS["generate"])
    page.locator("body[data-ready]").wait_for()
    assert "Do not use any of this to design" in page.locator("#view-generate").inner_text()
    prompt = page.get_by_role("textbox", name="Prompt")
    for wrong, said in ((">a\nA\n>b\nC", "The prompt has 2 FASTA records."), ("hello", "'h' at position 1 is not")):
        prompt.fill(wrong)
        page.get_by_role("button", name="Write").click()
        page.get_by_role("alert").filter(has_text=re.compile(f"^{said}")).wait_for()
        assert not page.get_by_text("Beginning").is_visible()
    prompt.fill(">mine\nGATCACAGGTCTATCACCCTATTAACC")
    page.get_by_role("spinbutton", name="Bases").fill("30")
    page.get_by_role("button", name="Write").click()
    page.get_by_role("button", name="Download FASTA").wait_for()
    made = NexVar("nexvar_mito").generate(
        prompt_seqs=["GATCACAGGTCTATCACCCTATTAACC"], n_tokens=30, temperature=0.9, top_k=4, top_p=1.0, seed=1
    )
    assert page.get_by_role("region", name="Written bases").inner_text() == made.sequences[0]
    with page.expect_download() as found:
        page.get_by_role("button", name="Download FASTA").click()
    assert Path(found.value.path()).read_text() == f">nexvar model=nexvar_mito seed=1\n{made.sequences[0]}\n"
    page.get_by_role("spinbutton", name="Bases").fill("4000")
    page.get_by_role("button", name="Write").click()
    page.locator(".written .base").nth(5).wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()
    page.get_by_role("link", name="Models").click()
    page.reload()
    page.get_by_role("link", name="Generate").click()
    assert prompt.input_value().startswith(">mine\nGATC")
    assert "GATC" not in page.url


def test_models_say_what_is_loaded_and_what_their_licence_forbids(watched):
    page = watched.open(VIEWS["models"])
    table = page.get_by_role("region", name="Models").get_by_role("table")
    table.wait_for(timeout=60_000)
    assert "on cpu, float32" in table.get_by_role("row").filter(has_text="nexvar_mito").inner_text()
    page.get_by_label("Find", exact=True).fill("nt_v2_50m masked")
    marked = table.get_by_role("row").filter(has_text="CC BY-NC-SA")
    assert marked.count() >= 1 and marked.locator(".mark").count() == marked.count()
    page.get_by_label("Find", exact=True).fill("no such model")
    page.get_by_text("No model has “no such model”").wait_for()


def test_tracks_of_one_s_own_stay_here_and_a_model_without_heads_says_so(watched, tmp_path):
    (tmp_path / "mine.bedgraph").write_text("chrM\t14400\t14480\t2\nchrM\t14480\t14560\t5\n")
    (tmp_path / "mine.txt").write_text("x")
    page = watched.open(VIEWS["locus"])
    page.locator("#igv[data-ready]").wait_for()
    page.get_by_role("button", name="signal").click()
    page.locator("#igv").get_by_text("signal").wait_for()
    assert page.get_by_role("button", name="Predict coverage").is_disabled()
    assert "no track heads" in page.locator("#tracks").inner_text()
    page.get_by_label("Add a file of mine").set_input_files(tmp_path / "mine.txt")
    page.get_by_role("alert").filter(has_text="mine.txt is no track").wait_for()
    page.get_by_label("Add a file of mine").set_input_files(tmp_path / "mine.bedgraph")
    page.locator("#igv").get_by_text("mine.bedgraph").wait_for()


def test_a_masked_model_scores_predicts_tracks_and_does_not_write(watched):
    page = watched.open(f"#/locus?genome=chrM&model={MASKED}&region=chrM:3201-3328&variant=chrM:3243A%3EG")
    page.locator("#variant-answer[data-ready]").wait_for()
    page.locator("#heat[data-ready]").wait_for()
    assert "UNMASKED_LLR_TILED" in page.locator("#variant-answer").inner_text()
    page.locator("#igv[data-ready]").wait_for()
    assert page.get_by_label("Tracks to predict").input_value() == "human_track_0"
    page.get_by_label("Tracks to predict").fill("human_track_0, human_track_1")
    page.get_by_role("button", name="Predict coverage").click()
    page.get_by_text("2 predicted tracks.").wait_for()
    page.locator("#igv").get_by_text("human_track_1, predicted").wait_for()
    page.get_by_role("link", name="Generate").click()
    page.get_by_role("alert").filter(has_text=f"{MASKED} is a masked model").wait_for()


def test_weights_that_are_not_commercial_are_marked_beside_their_numbers(watched):
    def forbid(route):
        body = route.fetch().json()
        body["models"][0]["commercial"] = False
        route.fulfill(json=body)

    watched.page.route("**/api/v1/models", forbid)
    page = watched.open(VIEWS["locus"])
    page.locator("#variant-answer[data-ready]").wait_for()
    page.locator("#heat[data-ready]").wait_for()
    assert page.locator(".score .mark").inner_text() == "non-commercial"
    for place in ("#heat-note", "#status"):
        assert page.locator(place).get_by_text("non-commercial").is_visible()


def test_a_key_and_a_server_that_goes_away(chromium, tmp_path):
    server = Served(tmp_path / "data", ["--api-key", "right"])
    server.start()
    watching_it = watching(chromium, server.address)
    watched = next(watching_it)
    watched.allowed += ["status of 401", "ERR_", "Failed to fetch"]
    try:
        page = watched.open("#key=wrong")
        page.get_by_text("The server refused this key.").wait_for()
        page.get_by_label("Key", exact=True).fill("right")
        page.get_by_role("button", name="Go on").click()
        page.get_by_role("link", name="m.3243A>G").click()
        page.locator("#heat[data-ready]").wait_for()
        page.locator("#igv[data-ready]").wait_for()
        assert "right" not in page.url and "wrong" not in page.url
        watched.open("#key=right")
        page.locator("body[data-ready]").wait_for()
        assert not page.get_by_role("dialog").is_visible()
        page.get_by_role("combobox", name="Find a gene").fill("MT-ND4")
        server.kill()
        page.get_by_role("combobox", name="Find a gene").press("Enter")
        page.get_by_role("alert").filter(has_text="nexvar serve").first.wait_for()
        assert page.get_by_role("combobox", name="Find a gene").input_value() == "MT-ND4"
        server.start()
        page.locator("#gone").wait_for(state="hidden")
        page.get_by_role("combobox", name="Find a gene").press("Enter")
        page.get_by_role("heading", name="MT-ND4").wait_for()
        server.kill(signal.SIGTERM)
    finally:
        server.kill()
    assert next(watching_it, None) is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_is_wider_than_the_screen_and_everything_has_a_name(chromium, served, tmp_path, width, scheme):
    shots = Path(os.environ.get("NEXVAR_SCREENSHOTS") or tmp_path)
    shots.mkdir(parents=True, exist_ok=True)
    watching_it = watching(chromium, served.address, viewport={"width": width, "height": 800}, color_scheme=scheme)
    watched = next(watching_it)
    for name, fragment in {"welcome": "#/locus?genome=chrM", **VIEWS}.items():
        page = watched.open(fragment)
        page.locator("body[data-ready]").wait_for()
        if name == "locus":
            page.locator("#variant-answer[data-ready]").wait_for()
            page.locator("#heat[data-ready]").wait_for()
            page.locator("#igv[data-ready]").wait_for()
        page.screenshot(path=shots / f"{name}-{width}-{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate(NAMELESS) == [], name
        assert page.get_by_role("heading", level=1).count() == 1, name
        assert page.get_by_text("Research output, not a diagnosis.", exact=True).is_visible(), name
    assert next(watching_it, None) is None


NAMELESS = """() => [...document.querySelectorAll('button, a, input, select, textarea, canvas, summary, [role=img]')]
  .filter((element) => element.checkVisibility() && !element.closest('[aria-hidden=true]'))
  .filter((element) => !(element.getAttribute('aria-label') || element.labels?.length || element.textContent.trim()))
  .map((element) => element.outerHTML.slice(0, 120))"""

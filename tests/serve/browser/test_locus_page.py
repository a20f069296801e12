"""Find, sequence, variant, heat map, known variants: by role and label, as a person finds them."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from browsing import HOSTILE
from nexvar import NexVar
from nexvar.evals.demo import shipped

TL1 = "#/locus?genome=chrM&region=chrM:3230-3304"


@pytest.fixture(scope="module")
def scores():
    """What Python says of the variants below; the command line writes the same numbers."""
    model, fasta = NexVar("nexvar_mito"), shipped("chrM_rCRS.fa")
    names = ["chrM:3243A>G", "chrM:14484T>C"]
    tiled = {"readouts": ("site",), "windowing": "tiled"}
    return (
        {name: next(model.score_variants([name], fasta)).llr for name in names},
        {name: next(model.score_variants([name], fasta, **tiled)).extra["SITE_TILED"] for name in names},
    )


def score_of(page):
    page.locator("#variant-answer[data-ready]").wait_for()
    return page.locator("[data-score]").get_attribute("data-score")


def ready(page):
    page.locator("#heat[data-ready]").wait_for()
    return page


def test_a_first_visit_teaches_itself_and_its_numbers_are_the_command_line_s(watched, scores):
    page = watched.open("#/locus?genome=chrM")
    page.get_by_role("link", name="m.3243A>G").wait_for()
    links = page.get_by_role("list").filter(has=page.locator("[data-example]")).get_by_role("link")
    assert links.count() == 3
    page.get_by_role("link", name="m.3243A>G").click()
    assert score_of(page) == f"{scores[0]['chrM:3243A>G']:.7g}"
    ready(page)
    assert page.get_by_role("heading", name="MT-TL1").is_visible()
    panel = page.locator("#variant-answer")
    panel.get_by_text("Among all SNVs").wait_for()
    assert f"{scores[1]['chrM:3243A>G']:.3f}".replace("-", "−") in panel.inner_text()
    assert "another kind of number" in panel.inner_text()
    assert page.get_by_text("Research output, not a diagnosis.", exact=True).is_visible()
    assert "nexvar_mito" in panel.locator(".provenance").inner_text()


def test_from_search_to_score_with_the_keyboard_alone(watched):
    page = watched.open("#/locus?genome=chrM")
    page.locator("body[data-ready]").wait_for()
    press = page.keyboard.press
    press("/")
    page.keyboard.type("nd6")
    page.get_by_role("option", name="MT-ND6").wait_for()
    press("ArrowDown")
    press("Enter")
    ready(page)
    assert page.get_by_role("heading", name="MT-ND6").is_visible()
    for _ in range(30):
        press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-roledescription')") == "sequence":
            break
    press("ArrowRight")
    assert "chrM:14,150 C" in page.locator("#sequence output").inner_text()
    assert "MT-ND6, minus strand" in page.locator("#sequence output").inner_text()
    press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "C to A at 14,150"
    press("Enter")
    assert float(score_of(page))
    assert "variant=chrM:14150C%3EA" in page.url


def test_a_minus_strand_gene_keeps_the_genome_s_alleles(watched, scores):
    page = watched.open("#/locus?genome=chrM")
    page.locator("body[data-ready]").wait_for()
    page.get_by_role("combobox", name="Find a gene").fill("m.14484T>C")
    page.keyboard.press("Enter")
    assert score_of(page) == f"{scores[0]['chrM:14484T>C']:.7g}"
    said = page.locator("#variant-answer").inner_text()
    assert "chrM:14,484 T>C" in said
    assert "its transcript reads A>G" in said
    assert "Codon ATG to GTG: M to V" in said
    page.get_by_role("button", name="Open chrM:14453G>A").click()
    page.get_by_role("heading", name="chrM:14,453 G>A").wait_for()
    assert "Known: pathogenic" in page.locator("#variant-answer").inner_text()


def test_every_change_as_a_map_a_table_and_a_track(watched, scores):
    asked = []
    watched.page.on("request", lambda request: asked.append(request.url) if "/sequence?" in request.url else None)
    page = ready(watched.open(TL1))
    board = page.locator("#heat canvas").first
    board.focus()
    for key in ["ArrowRight"] * 13 + ["ArrowDown"] * 3 + ["ArrowUp"]:
        page.keyboard.press(key)
    said = page.locator("#heat output").inner_text()
    expected = f"{scores[1]['chrM:3243A>G']:.3f}".replace("-", "−")
    assert f"chrM:3,243 A>G · {expected} · lower than" in said
    assert board.get_attribute("aria-label") == said
    page.keyboard.press("Enter")
    score_of(page)
    page.get_by_text("Table of 225 scores").click()
    cells = page.locator("#heat tbody tr").nth(13).get_by_role("cell").all_inner_texts()
    assert cells[0] == "A" and cells[3] == expected and cells[1] == "–"
    page.locator("#igv[data-ready]").wait_for()
    page.locator("#igv").get_by_text("Logo").wait_for()
    page.wait_for_timeout(500)
    assert 0 < len(asked) < 5  # in blocks, not base by base


def test_dragging_along_bases_opens_their_range_and_back_returns(watched):
    page = ready(watched.open(TL1))
    page.locator('[data-pos0="3240"]').hover()
    page.mouse.down()
    page.locator('[data-pos0="3260"]').hover()
    page.mouse.up()
    page.get_by_role("heading", name="chrM:3,241–3,261").wait_for()
    ready(page)
    page.go_back()
    page.get_by_role("heading", name="MT-TL1").wait_for()


def test_known_variants_are_told_apart_or_it_is_said_that_they_are_too_few(watched):
    page = ready(watched.open("#/locus?genome=chrM&region=chrM:3230-4262"))
    known = page.locator("#known")
    known.get_by_role("button", name="Score all as in the map").click()
    said = known.locator(".verdict").inner_text()
    assert re.match(r"AUROC 0\.\d{3} \(95% interval 0\.\d{3} to [01]\.\d{3}; 11 pathogenic, 52 benign\)", said)
    assert known.get_by_role("columnheader").all_inner_texts()[-1] == "quick score (SITE_TILED)"
    rows = known.get_by_role("row").count()
    known.get_by_label("Class of known variants").select_option("pathogenic")
    assert known.get_by_role("row").count() == 12 < rows
    ready(watched.open(TL1))
    known.get_by_role("button", name="Score all by the model").click()
    known.locator(".verdict").wait_for()
    assert "Too few for an AUROC: 5 pathogenic, 4 benign" in known.locator(".verdict").inner_text()
    assert known.get_by_role("columnheader").all_inner_texts()[-1].startswith("Score (site")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("chrM:3243C>G", "not what this genome has here"),
        ("chrM:99999A>G", "beyond the end of the contig"),
        ("chr9:5A>G", "no such contig"),
        ("nonsense", "is no variant"),
    ],
)
def test_a_wrong_variant_is_a_sentence_beside_it_and_stays_typed(watched, typed, said):
    watched.allowed.append("status of 4")
    page = ready(watched.open(TL1))
    page.get_by_role("textbox", name="Variant").fill(typed)
    page.get_by_role("button", name="Score", exact=True).click()
    alert = page.locator("#variant-answer, #locus-head").get_by_role("alert").first
    alert.wait_for()
    assert said in alert.inner_text()
    assert page.get_by_role("textbox", name="Variant").input_value() == typed
    if typed == "chrM:3243C>G":
        assert page.get_by_role("button", name="A, the reference").is_disabled()


def test_the_focus_stays_on_what_was_pressed(watched):
    from playwright.sync_api import expect

    page = ready(watched.open(f"{TL1}&variant=chrM:3243A%3EG"))
    known = page.locator("#known")
    for button in (
        page.get_by_role("button", name="Zoom out"),
        page.get_by_role("button", name="A to T at 3,243"),
        known.get_by_role("button", name="Score all as in the map"),
    ):
        button.focus()
        page.keyboard.press("Enter")
        ready(page)
        page.locator("#variant-answer[data-ready]").wait_for()
        expect(button).to_be_focused()


def test_an_unknown_gene_brings_the_nearest_names_and_a_region_beyond_the_end_a_sentence(watched):
    watched.allowed.append("status of 4")
    page = watched.open("#/locus?genome=chrM")
    page.locator("body[data-ready]").wait_for()
    box = page.get_by_role("combobox", name="Find a gene")
    box.fill("MT-ND9")
    box.press("Enter")
    page.get_by_role("alert").filter(has_text="“MT-ND9”").wait_for()
    assert box.input_value() == "MT-ND9"
    page.get_by_role("button", name="MT-ND6").click()
    ready(page)
    box.fill("chrM:20,000-21,000")
    box.press("Enter")
    page.get_by_role("alert").filter(has_text="chrM has 1-16569").wait_for()
    watched.open("#/locus?genome=chrM&region=chrM:20000-21000")
    page.get_by_role("alert").filter(has_text="chrM has 1-16569").wait_for()
    watched.open("#/locus?genome=nowhere&region=chr1:1-9")
    page.get_by_role("alert").filter(has_text="no genome nowhere; it has evil, chrM").wait_for()


def test_names_that_are_html_stay_text(watched):
    page = watched.open("#/locus?genome=evil&region=evil:1-200&variant=evil:21A%3EC")
    score_of(page)
    ready(page)
    page.locator("#igv[data-ready]").wait_for()
    assert page.locator("#known table").get_by_text("onerror").first.is_visible()
    assert page.locator("#sequence .gene").first.inner_text().startswith("← <img")
    box = page.get_by_role("combobox", name="Find a gene")
    box.fill("<img")
    page.get_by_role("option").first.wait_for()
    page.locator("#igv").click(position={"x": 300, "y": 110})
    page.wait_for_timeout(800)  # igv waits for a second click
    assert page.locator("img").count() == 0
    assert page.title() == "NexVar"


def test_a_contig_whose_name_is_html_stays_text(watched):
    place = quote(f"{HOSTILE}:1-60")
    page = ready(watched.open(f"#/locus?genome=evil&region={place}"))
    page.locator("#igv[data-ready]").wait_for()
    assert page.get_by_text(f"{HOSTILE}:1–60").first.is_visible()
    assert not watched.problems
    watched.allowed.append("status of 4")
    watched.open("#/locus?genome=evil&region=other:1-60")
    page.get_by_role("alert").filter(has_text="<img/src").wait_for()  # the contigs that there are
    assert page.locator("img").count() == 0 and page.title() == "NexVar"

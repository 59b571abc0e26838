"""What users read about the nodes: tooltips, help pages and their names in four languages."""

import json
import re
from pathlib import Path

import pytest

from tools.locales import list_inputs, write_english

ROOT = Path(__file__).resolve().parents[2]
# and a letter that every text in it has
LANGUAGES = {
    "en": "[a-z]",
    "ko": "[가-힣]",
    "zh": "[一-鿿]",
    "ja": "[ぁ-ヿ]",
}
ENGLISH = re.compile(
    r"\b(a|an|and|are|by|for|from|how|in|is|it|its|not|of|on|one|or|that|the|this|to|what|which|with)\b", re.I
)
# vue-i18n, which shows these texts, would read them as placeholders, links and plurals
SPECIAL = re.compile(r"[{}@|]")
SECTIONS = ("## Inputs", "## Outputs", "## How to use it", "## Pitfalls")


def texts_of(entry: dict, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Return the texts of a nested dictionary by their paths."""
    found = {}
    for key, value in entry.items():
        found |= texts_of(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return found


def locale(language: str, file: str = "nodeDefs") -> dict:
    return json.loads((ROOT / "locales" / language / f"{file}.json").read_text(encoding="utf-8"))


def test_every_node_explains_itself_in_its_source(pack):
    assert pack.NODE_DISPLAY_NAME_MAPPINGS.keys() == pack.NODE_CLASS_MAPPINGS.keys()
    assert len(set(pack.NODE_DISPLAY_NAME_MAPPINGS.values())) == len(pack.NODE_CLASS_MAPPINGS)
    for name, cls in pack.NODE_CLASS_MAPPINGS.items():
        assert cls.DESCRIPTION.endswith("."), name
        assert cls.SEARCH_ALIASES and len(set(cls.SEARCH_ALIASES)) == len(cls.SEARCH_ALIASES), name
        assert len(getattr(cls, "OUTPUT_TOOLTIPS", ())) == len(cls.RETURN_TYPES), name
        for key, options in list_inputs(cls).items():
            assert options.get("tooltip", "").endswith("."), f"{name}.{key}"


def test_every_node_has_a_help_page_that_names_all_of_it(pack):
    pages = ROOT / "web" / "docs"
    assert {page.stem for page in pages.iterdir()} == set(pack.NODE_CLASS_MAPPINGS)
    for node, cls in pack.NODE_CLASS_MAPPINGS.items():
        page = (pages / f"{node}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {pack.NODE_DISPLAY_NAME_MAPPINGS[node]}\n"), node
        assert re.findall("^## .*", page, re.M) == list(SECTIONS), node
        about = dict(zip(SECTIONS, re.split("^## .*", page, flags=re.M)[1:], strict=True))
        listed = re.findall(
            r"`([^`]+)`",
            "".join(line.split(":")[0] for line in about["## Inputs"].splitlines() if line.startswith("- ")),
        )
        assert listed == list(list_inputs(cls)), node
        for output in getattr(cls, "RETURN_NAMES", cls.RETURN_TYPES):
            assert f"`{output}`" in about["## Outputs"], f"{node}: {output}"


def test_workflows_that_a_help_page_names_exist_and_hold_the_node(pack):
    for node in pack.NODE_CLASS_MAPPINGS:
        page = (ROOT / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")
        for line in re.findall("^Workflows: (.*)", page, re.M):
            for name in re.findall("`([^`]+)`", line):
                graph = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
                assert node in {entry["class_type"] for entry in graph.values()}, f"{node}: {name}"


def test_english_is_what_the_sources_say(pack):
    assert locale("en") == write_english(pack), "run: python -m tools.locales, then translate what changed"


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_are_complete(pack, language):
    wanted, texts = texts_of(write_english(pack)), texts_of(locale(language))
    assert texts.keys() == wanted.keys()
    assert [path for path, text in texts.items() if not text.strip() or SPECIAL.search(text)] == []
    titles = [text for (_, *path), text in texts.items() if path == ["display_name"]]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("language", ["ko", "zh", "ja"])
def test_translations_hold_no_english(pack, language):
    sentences = {
        path: text
        for path, text in texts_of(locale(language)).items()
        if path[-1] in ("tooltip", "description")
    }
    assert [path for path, text in sentences.items() if not re.search(LANGUAGES[language], text)] == []
    assert {path: text for path, text in sentences.items() if ENGLISH.search(text)} == {}


@pytest.mark.parametrize("language", ["ko", "zh", "ja"])
def test_sentences_call_nodes_by_their_names_in_the_same_language(pack, language):
    texts = texts_of(locale(language))
    titles = {text for path, text in texts.items() if path[1:] == ("display_name",)}
    for path, text in texts.items():
        for name in re.findall(r"[“「『\"]([^”」』\"]+ \(VD\))[”」』\"]", text):
            assert name in titles, path
        assert (
            text.count("(VD)") == len(re.findall(r"[“「『\"][^”」』\"]+ \(VD\)[”」』\"]", text))
            or path[-1] == "display_name"
        ), path


@pytest.mark.parametrize("language", LANGUAGES)
def test_categories_are_named(pack, language):
    """Those that ComfyUI has too are named by it."""
    own = {part for cls in pack.NODE_CLASS_MAPPINGS.values() for part in cls.CATEGORY.split("/")} - {
        "loaders",
        "conditioning",
    }
    assert locale(language, "main")["nodeCategories"].keys() == own


def test_the_pack_names_its_web_folder(pack):
    assert (ROOT / pack.WEB_DIRECTORY / "docs").is_dir() and "WEB_DIRECTORY" in pack.__all__


def test_the_registry_is_told_of_every_requirement():
    required = [
        line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")
    ]
    listed = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert re.findall('"(.+?)"', listed[1]) == required


def test_the_page_of_nodes_names_each(pack):
    page = (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")
    assert [name for name in pack.NODE_CLASS_MAPPINGS if f"`{name}`" not in page] == []

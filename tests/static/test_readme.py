"""What the README shows is what the programs take."""

import re
from pathlib import Path

from proxypool.core import config_file

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_configuration_in_the_readme_is_valid() -> None:
    """Both roles in one file, as shown."""
    (block,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    parsed = config_file.parse(block, what="README")
    assert parsed.node is not None
    assert parsed.host is not None


def test_links_lead_somewhere() -> None:
    """Each relative link of the README and of the documents names a file."""
    root = Path(__file__).parents[2]
    broken = [
        f"{page.relative_to(root)}: {target}"
        for page in [root / "README.md", root / "kubernetes/README.md", *(root / "docs").rglob("*.md")]
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []

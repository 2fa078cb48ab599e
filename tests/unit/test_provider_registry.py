"""Providers are found by entry point, and what is wrong with one is said so that somebody can put it right."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from proxypool.core.config import Config, ProviderConfig
from proxypool.core.config_file import parse
from proxypool.core.errors import InvalidInput
from proxypool.providers import registry
from proxypool.providers.baidu.settings import BaiduConfig
from proxypool.providers.command import CommandConfig
from proxypool.providers.contract import PoolView

ROOT = Path(__file__).parents[2]
BAIDU = '[provider]\nname = "baidu"\n[provider.baidu]\nendpoint = "https://bcc.bj.baidubce.com"\nhavip_vpc = "vpc-1"\n'


def refusal(text: str) -> str:
    """What the check of a configuration file says."""
    with pytest.raises(InvalidInput) as caught:
        registry.check(parse(text, what="proxypool.toml").provider)
    return str(caught.value)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose packages are installed; `third` declares the providers third, broken and gone."""
    monkeypatch.syspath_prepend(tmp_path)
    info = tmp_path / "third-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third\nVersion: 1.2\nProvides-Extra: broken\n")
    (info / "entry_points.txt").write_text(
        "[proxypool.providers]\nthird = third_provider:create\nbroken = third_broken:create\n"
        "gone = third_provider:absent\nlost = third_lost:create\n"
    )
    (tmp_path / "third_provider.py").write_text(
        "class Third:\n    def __init__(self, table):\n        self.name = 'third'\n        self.table = table\n"
        "def create(table, view):\n    return Third(table)\n"
    )
    (tmp_path / "third_broken.py").write_text("import a_vendor_sdk_that_is_missing\n")
    return tmp_path


def test_without_a_section_it_is_spare() -> None:
    assert Config().provider.name == "spare"
    assert registry.create(Config().provider, PoolView).name == "spare"


@pytest.mark.parametrize("name", ["spare", "command", "baidu"])
def test_ours_are_found_by_name(name: str) -> None:
    tables: dict[str, dict[str, Any]] = {
        "command": {"program": ["/bin/true"]},
        "baidu": {"endpoint": "https://x", "havip_vpc": "vpc-1", "havip_subnet": "sbn-1"},
    }
    config = ProviderConfig(name=name, tables={name: tables[name]} if name in tables else {})
    assert registry.create(config, PoolView).name == name


def test_another_packages_provider_gets_its_table_as_it_stands(installed: Path) -> None:
    config = parse('[provider]\nname = "third"\n[provider.third]\nurl = "u"\ndeep = {a = [1]}\n', what="f").provider
    provider = registry.create(config, PoolView)
    assert provider.name == "third"
    assert provider.table == {"url": "u", "deep": {"a": [1]}}  # type: ignore[attr-defined]  # of that provider alone


def test_an_unknown_name_gets_the_nearest_and_the_list() -> None:
    text = refusal('[provider]\nname = "comand"\n')
    assert text.startswith("provider.name: there is no provider 'comand'; did you mean command? Installed are: ")
    assert {"baidu", "command", "spare"} <= set(re.split(r"[ ,]+", text.partition("are: ")[2]))


def test_a_table_of_no_provider_is_refused() -> None:
    """A mistyped one would be silently without effect."""
    assert "[provider.comand]: there is no provider 'comand'; did you mean command?" in refusal(
        '[provider.comand]\nprogram = ["/bin/true"]\n'
    )


def test_a_provider_whose_library_is_missing_says_what_to_install(installed: Path) -> None:
    assert refusal('[provider]\nname = "broken"\n') == (
        "the provider broken cannot be imported: No module named 'a_vendor_sdk_that_is_missing'. "
        "Install it: pip install 'third[broken]'"
    )


def test_baidu_without_its_sdk_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("proxypool.providers.baidu")]:
        monkeypatch.delitem(sys.modules, module)
    for module in [name for name in sys.modules if name.split(".")[0] == "baidubce"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "baidubce", None)
    assert refusal(BAIDU + 'havip_subnet = "sbn-1"\n').endswith("Install it: pip install 'proxypool[baidu]'")


def test_a_provider_of_two_packages_is_neither(installed: Path) -> None:
    """Which of them it would be, nobody could tell; and ours are not replaced in silence."""
    (installed / "third-1.2.dist-info" / "entry_points.txt").write_text(
        "[proxypool.providers]\nspare = third_provider:create\n"
    )
    text = refusal('[provider]\nname = "spare"\n')
    assert re.fullmatch(
        r"the package proxypool \S+ and the package third 1.2 both have a provider spare: remove .*", text
    )


def test_a_module_that_fails_in_its_own_way_is_told_with_its_package(installed: Path) -> None:
    (installed / "third_broken.py").write_text("1 / 0\n")
    assert "ZeroDivisionError: division by zero. It belongs to the package third 1.2" in refusal(
        '[provider]\nname = "broken"\n'
    )


def test_a_provider_that_is_not_in_its_package_is_told_with_the_package(installed: Path) -> None:
    gone = refusal('[provider]\nname = "gone"\n')
    assert "third_provider:absent" in gone
    assert gone.endswith("It belongs to the package third 1.2")
    assert refusal('[provider]\nname = "lost"\n').endswith("It belongs to the package third 1.2")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[provider]\nname = "command"\n', "[provider.command]: Object missing required field `program`"),
        ('[provider]\nname = "command"\n[provider.command]\nprogram = []\n', "Expected `array` of length >= 1"),
        ('[provider]\nname = "command"\n[provider.command]\nprogram = ["x"]\n', "'x' is not an absolute path"),
        (
            '[provider]\nname = "command"\n[provider.command]\nprogramm = ["/x"]\n',
            "unknown key provider.command.programm: did you mean provider.command.program?",
        ),
        ('[provider]\nname = "command"\n[provider.command]\nprogram = ["/x"]\ntimeout_s = 0\n', "$.timeout_s"),
        ("[provider.spare]\ncards = 3\n", "unknown key provider.spare.cards"),
        (BAIDU, "[provider.baidu]: Object missing required field `havip_subnet`"),
        (BAIDU.replace("https://", ""), "$.endpoint"),
        (BAIDU + 'subnet = "x"\n', "unknown key provider.baidu.subnet: did you mean provider.baidu.havip_subnet?"),
    ],
)
def test_a_wrong_table_is_refused_with_its_key(text: str, problem: str) -> None:
    assert problem in refusal(text)


def test_a_key_of_the_section_itself_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"proxypool.toml: line 2: unknown key provider.program: it is `name`, or a table"
    ):
        parse('[provider]\nprogram = "/x"\n', what="proxypool.toml")
    with pytest.raises(InvalidInput, match=r"\$.provider.name"):
        parse("[provider]\nname = 5\n", what="proxypool.toml")


@pytest.mark.parametrize(("kind", "name"), [(CommandConfig, "command"), (BaiduConfig, "baidu")])
def test_the_page_on_providers_names_every_key(kind: type[CommandConfig | BaiduConfig], name: str) -> None:
    """A key that is new must be written down."""
    page = (ROOT / "docs" / "providers.md").read_text()
    tables = "".join(re.findall(rf"^\[provider\.{name}\]\n(.*?)```", page, re.MULTILINE | re.DOTALL))
    assert [key for key in kind.__struct_fields__ if not re.search(rf"^{key} = ", tables, re.MULTILINE)] == []

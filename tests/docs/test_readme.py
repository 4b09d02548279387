"""The README is short, and says where the rest is."""

from tests.docs.markdown import ROOT, links

README = ROOT / "README.md"


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert 6000 <= len(README.read_bytes()) <= 8000


def test_the_readme_leads_to_the_documentation() -> None:
    assert {"docs/index.md", "docs/map.md", "docs/reference/cli.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= {
        *links(README)
    }

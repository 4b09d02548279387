"""Runs ``python -m scripts.reference``: writes every generated page that is not as the code says."""

from scripts.reference.pages import ROOT, stale

if __name__ == "__main__":
    for page, text in stale():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page.relative_to(ROOT)}")

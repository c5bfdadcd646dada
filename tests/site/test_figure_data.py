"""The numbers behind every figure of the built site are called by what they are."""

import pandas as pd

from .conftest import Site


def test_no_series_is_called_by_a_colour(site: Site) -> None:
    tables = sorted((site.html / "_data").glob("*.csv"))
    assert len(tables) >= 50
    for path in tables:
        names = pd.read_csv(path)["series"].dropna().astype(str)
        assert not names.str.contains(r"#[0-9a-fA-F]{3}").any(), path.name
        if path.name.startswith("auto_examples"):  # drawn by panels, which name everything
            assert not names.str.fullmatch(r"(line|band|points|bars) \d+").any(), path.name

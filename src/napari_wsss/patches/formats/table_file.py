"""Reading a CSV, TSV or Parquet file as a table of text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsss.errors import DataError, listed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLE_SUFFIXES", "read_table"]

#: File name endings taken for tables, in lower case.
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})

# What pandas and pyarrow raise on damaged bytes (found by mutating files).
_DAMAGE = (OSError, ValueError, TypeError, KeyError, IndexError, OverflowError)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as text, blanks around column names removed.

    Parameters
    ----------
    path
        CSV (comma or semicolon), TSV or Parquet.

    Returns
    -------
    pandas.DataFrame
        All cells as str, '' where empty; the index is the row as a spreadsheet counts it
        (the first row of data is 2).

    Raises
    ------
    DataError
        If the file cannot be read, a column has no name or stands there twice.
    """
    import pandas as pd

    read = _read_parquet if path.suffix.lower() == ".parquet" else _read_text
    try:
        frame = read(path)
    except FileNotFoundError:
        raise DataError(f"There is no table {path}.") from None
    except _DAMAGE as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    columns = [str(c).strip() for c in frame.columns]
    problems = [f"column {c!r} occurs {n} times" for c, n in Counter(columns).items() if n > 1]
    problems += [f"column {i + 1} has no name" for i, c in enumerate(columns) if not c]
    if problems:
        raise DataError(f"{path}: the columns are not usable:{listed(problems)}")
    frame.columns = pd.Index(columns)
    frame.index = pd.RangeIndex(2, len(frame) + 2)
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        frame = pd.read_parquet(path)
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    return frame.astype(object).where(frame.notna(), "").astype(str)


def _read_text(path: Path) -> pd.DataFrame:
    import pandas as pd

    # Without a header, since pandas would rename repeated columns silently.
    frame = pd.read_csv(
        path,
        header=None,
        sep=_separator(path),
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
    ).fillna("")
    frame.columns = pd.Index(frame.iloc[0])
    return frame.iloc[1:]


def _separator(path: Path) -> str:
    """Tell a tab, a semicolon (spreadsheets in many countries) or a comma from the header."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline(65536)
    return max(",;\t", key=header.count)

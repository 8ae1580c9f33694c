"""What tests of data sets share: all splits as one table, and what every refusal has in common."""

from __future__ import annotations

import re

import pandas as pd

from biasbench import SPLITS


def everything(dataset):
    """Rows of all splits, with the split in a column."""
    return pd.concat([dataset.table(split).assign(split=split) for split in SPLITS], ignore_index=True)


def refused(error, message, start):
    """One line that begins with the file and says what to do; returns it."""
    text = str(error.value)
    assert re.search(message, text), text
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) < 900
    assert text.startswith(str(start))
    assert error.value.fix
    assert error.value.exit_code == 4
    return text

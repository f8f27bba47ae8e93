"""Files of Stata, SPSS and SAS."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from scorefield.data.base import Dataset


@register("format", "labelled")
class LabelledFile(Format):
    """A table of Stata, SPSS or SAS: labels of numbers are categories, declared missing values are missing."""

    description, takes, priority = "a file of Stata, SPSS or SAS (.dta, .sav, .zsav, .por, .sas7bdat, .xpt)", "path", 41
    suffixes = (".dta", ".sav", ".zsav", ".por", ".sas7bdat", ".xpt")

    def claims(self, source: str) -> bool:
        """Whether it is a file with one of the suffixes."""
        return source.lower().endswith(self.suffixes) and os.path.isfile(source)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read its columns."""
        from scorefield.data.table.tables import read

        return read(source, spec.config, spec.columns)

"""The option `--variant`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Variant(StrEnum):
    """Choices of `--variant`."""

    AUTO = "auto"
    FP32 = "fp32"
    INT8 = "int8"


VariantOption = Annotated[
    Variant,
    typer.Option(help="Arithmetic of the networks. **auto**: int8 where bundle and processor have it, else fp32."),
]

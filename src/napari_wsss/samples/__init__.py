"""A synthetic H&E-like slide with known truth, for demos, tutorials and tests."""

from __future__ import annotations

from napari_wsss.samples.slide import SyntheticSlide, synthetic_slide

__all__ = ["SyntheticSlide", "synthetic_slide"]

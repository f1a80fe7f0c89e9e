"""How far the uncertainty layer can be trusted: errors against it, on images not trained on.

    python benchmarks/uncertainty.py --data FOLDER --out benchmark-output --rows cam mlps default

Sets, folds, budgets and stages are those of ``accuracy.py``, with which finished stages are
shared. Each row is measured with the temperature that its training fitted to held-out patch
labels, and without. Masks measure, and choose nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accuracy import Bench, Stages
from accuracy_rows import ROWS, SETS

import napari_wsss as wsss
from napari_wsss.evaluation import Reliability
from napari_wsss.models import WsssModel
from napari_wsss.settings import EvaluationSettings, InferenceSettings

HEAD = (
    "| set | model | temperature | AURC (by chance / at best) | 95 % over images "
    "| errors in the most uncertain tenth | ECE | 95 % over images |\n"
    "|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmark-output"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["cam", "mlps", "default"])
    parser.add_argument("--fold", default="0")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    lines = [HEAD]
    for name in args.sets:
        bench = Bench(name, args.fold, args.seed, args.data, None, args.out)
        for key in args.rows:
            model = trained(bench, key)
            fitted = model.info.temperature
            for temperature in sorted({1.0, fitted}):
                lines.append(row(bench, key, with_temperature(model, temperature)))
    print("\n".join(lines))


def trained(bench: Bench, key: str) -> WsssModel:
    """Return the model of a row of the accuracy benchmark, trained if that is not done."""
    stages = Stages(bench.out / bench.name, bench.patches(), ROWS[key], bench.set, bench.seed)
    found: Any = None
    for stage in stages.made():
        stages.folder(stage).mkdir(parents=True, exist_ok=True)
        found, _ = stages.make(stage, found)
    return found


def with_temperature(model: WsssModel, temperature: float) -> WsssModel:
    """Return the model with another temperature, which changes no label."""
    model.info = model.info.model_copy(update={"temperature": temperature})
    return model


def row(bench: Bench, key: str, model: WsssModel) -> str:
    """Measure a model on the images of the fold; returns its line of the table."""
    found = wsss.evaluate(
        model,
        bench.images(),
        bench.data / bench.set.masks,
        bench.set.classes,
        settings=EvaluationSettings(),
        inference=InferenceSettings(precision="fp32"),
        device="cpu",
    ).reliability
    assert isinstance(found, Reliability)
    print(f"{bench.name}, {key}: AURC {found.aurc:.4f}, ECE {found.ece:.4f}", flush=True)
    tenth = 100 * found.errors_found(0.1)
    return (
        f"| {bench.name} | {ROWS[key].title} | {found.temperature:.2f} | {found.aurc:.3f} "
        f"({found.error_rate:.3f} / {found.aurc_best:.3f}) | {ends(found.aurc_interval95)} "
        f"| {tenth:.1f} % | {found.ece:.3f} | {ends(found.ece_interval95)} |"
    )


def ends(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


if __name__ == "__main__":
    main()

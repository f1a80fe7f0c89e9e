"""Workflows: evaluation, reports, projects of all stages, and the demo."""

from typing import TYPE_CHECKING

from napari_wsss.lazy import on_first_use

if TYPE_CHECKING:
    from napari_wsss.workflows.benchmark import BenchmarkResult, benchmark_job, run_benchmark
    from napari_wsss.workflows.demo import DemoResult, demo_job, run_demo
    from napari_wsss.workflows.exports import export_job, export_result
    from napari_wsss.workflows.lesson import Lesson, draw_lesson, lesson_job
    from napari_wsss.workflows.measure import evaluate, evaluate_job
    from napari_wsss.workflows.project import project_job, run_project
    from napari_wsss.workflows.report import report_evaluation

__all__ = [
    "BenchmarkResult",
    "DemoResult",
    "Lesson",
    "benchmark_job",
    "demo_job",
    "draw_lesson",
    "evaluate",
    "evaluate_job",
    "export_job",
    "export_result",
    "lesson_job",
    "project_job",
    "report_evaluation",
    "run_benchmark",
    "run_demo",
    "run_project",
]

__getattr__ = on_first_use(
    __name__,
    {
        "benchmark": ("BenchmarkResult", "benchmark_job", "run_benchmark"),
        "demo": ("DemoResult", "demo_job", "run_demo"),
        "exports": ("export_job", "export_result"),
        "lesson": ("Lesson", "draw_lesson", "lesson_job"),
        "measure": ("evaluate", "evaluate_job"),
        "project": ("project_job", "run_project"),
        "report": ("report_evaluation",),
    },
)

"""Workflows: evaluation, reports, projects of all stages, and the demo."""

from napari_wsss.workflows.demo import DemoResult, demo_job, run_demo
from napari_wsss.workflows.exports import export_job, export_result
from napari_wsss.workflows.lesson import Lesson, draw_lesson, lesson_job
from napari_wsss.workflows.measure import evaluate, evaluate_job
from napari_wsss.workflows.project import project_job, run_project
from napari_wsss.workflows.report import report_evaluation

__all__ = [
    "DemoResult",
    "Lesson",
    "demo_job",
    "draw_lesson",
    "evaluate",
    "evaluate_job",
    "export_job",
    "export_result",
    "lesson_job",
    "project_job",
    "report_evaluation",
    "run_demo",
    "run_project",
]

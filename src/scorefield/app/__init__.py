"""Every verb as a plain function: arguments in, a dataclass out, nothing printed.

Python, the command and the page are three faces of these functions and differ only in parsing and drawing. Long work takes a
`watch` callback and reports to it.
"""

from scorefield.app.inspection import InspectReport, inspect
from scorefield.app.likelihood import LikelihoodReport, likelihood, likelihood_table
from scorefield.app.planning import DataPlan, plan
from scorefield.app.quality import evaluate
from scorefield.app.report import QualityReport, quality_table
from scorefield.app.sampling import SampleReport, sample
from scorefield.app.training import Plan, TrainReport, train
from scorefield.app.tuning import TuningReport, forget_tuning, tune, tuning_table
from scorefield.app.verification import VerifyReport, verify

__all__ = [
    "DataPlan",
    "InspectReport",
    "LikelihoodReport",
    "Plan",
    "QualityReport",
    "SampleReport",
    "TrainReport",
    "TuningReport",
    "VerifyReport",
    "evaluate",
    "forget_tuning",
    "inspect",
    "likelihood",
    "likelihood_table",
    "plan",
    "quality_table",
    "sample",
    "train",
    "tune",
    "tuning_table",
    "verify",
]

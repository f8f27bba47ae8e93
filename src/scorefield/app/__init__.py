"""Every verb as a plain function: arguments in, a dataclass out, nothing printed.

Python, the command and the page are three faces of these functions and differ only in parsing and drawing. Long work takes a
`watch` callback and reports to it. Arguments are checked here, by the types that the functions declare.
"""

from scorefield.app import evaluate as quality
from scorefield.app import inspect as inspection
from scorefield.app import likelihood as likelihoods
from scorefield.app import plan as planning
from scorefield.app import sample as sampling
from scorefield.app import train as training
from scorefield.app import tune as tuning
from scorefield.app import verify as verification
from scorefield.app.arguments import checked
from scorefield.app.inspect import InspectReport
from scorefield.app.plan import DataPlan
from scorefield.app.sample import SampleReport
from scorefield.app.train import Plan, TrainReport
from scorefield.app.verify import VerifyReport
from scorefield.drawing import NotWritten
from scorefield.evaluation.likelihood import LikelihoodSpec
from scorefield.evaluation.likelihood_report import LikelihoodReport, likelihood_table
from scorefield.evaluation.measure import EvaluateSpec
from scorefield.evaluation.report import QualityReport, quality_table
from scorefield.specs import ComputeSpec, SampleSpec, TrainSpec
from scorefield.tuning.measure import TuneSpec
from scorefield.tuning.report import TuningReport, tuning_table

plan = checked(planning.plan)
train = checked(training.train)
sample = checked(sampling.sample)
inspect = checked(inspection.inspect)
evaluate = checked(quality.evaluate)
tune = checked(tuning.tune)
forget_tuning = checked(tuning.forget_tuning)
likelihood = checked(likelihoods.likelihood)
verify = checked(verification.verify)

__all__ = [
    "ComputeSpec",
    "DataPlan",
    "EvaluateSpec",
    "InspectReport",
    "LikelihoodReport",
    "LikelihoodSpec",
    "NotWritten",
    "Plan",
    "QualityReport",
    "SampleReport",
    "SampleSpec",
    "TrainReport",
    "TrainSpec",
    "TuneSpec",
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

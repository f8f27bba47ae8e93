"""Every verb as a plain function: arguments in, a dataclass out, nothing printed.

Python, the command and the page are three faces of these functions and differ only in parsing and drawing. Long work takes a
`watch` callback and reports to it. Arguments are checked here, by the types that the functions declare.
"""

from scorefield.app import inspection, planning, quality, sampling, training, tuning, verification
from scorefield.app import likelihood as likelihoods
from scorefield.app.arguments import checked
from scorefield.app.common import NotWritten
from scorefield.app.inspection import InspectReport
from scorefield.app.likelihood import LikelihoodReport, likelihood_table
from scorefield.app.planning import DataPlan
from scorefield.app.report import QualityReport, quality_table
from scorefield.app.sampling import SampleReport
from scorefield.app.training import Plan, TrainReport
from scorefield.app.tuning import TuningReport, tuning_table
from scorefield.app.verification import VerifyReport

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
    "DataPlan",
    "InspectReport",
    "LikelihoodReport",
    "NotWritten",
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

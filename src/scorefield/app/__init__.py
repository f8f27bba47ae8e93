"""Every verb as a plain function: arguments in, a dataclass out, nothing printed.

Python, the command and the page are three faces of these functions and differ only in parsing and drawing. Long work takes a
`progress` and reports to it. Arguments are checked here, by the types that the functions declare; the fields of a spec may be
given as keywords.

    from scorefield import app

    app.train("photos/", out="runs/photos", seconds=180.0)
    app.sample("runs/photos", n=64, steps=20, out="new.png")
"""

from scorefield.app.arguments import checked
from scorefield.app.convert import ConvertReport
from scorefield.app.convert import convert as _convert
from scorefield.app.denoise import DenoiseReport
from scorefield.app.denoise import denoise as _denoise
from scorefield.app.distill import DistillReport
from scorefield.app.distill import distill as _distill
from scorefield.app.evaluate import evaluate as _evaluate
from scorefield.app.export import ExportReport
from scorefield.app.export import export as _export
from scorefield.app.import_ import ImportReport
from scorefield.app.import_ import import_ as _import
from scorefield.app.impute import ImputeReport
from scorefield.app.impute import impute as _impute
from scorefield.app.inspect import InspectReport
from scorefield.app.inspect import inspect as _inspect
from scorefield.app.interpolate import InterpolateReport
from scorefield.app.interpolate import interpolate as _interpolate
from scorefield.app.likelihood import likelihood as _likelihood
from scorefield.app.odd import OddReport
from scorefield.app.odd import odd as _odd
from scorefield.app.plan import DataPlan
from scorefield.app.plan import plan as _plan
from scorefield.app.restore import RestoreReport
from scorefield.app.restore import restore as _restore
from scorefield.app.sample import SampleReport
from scorefield.app.sample import sample as _sample
from scorefield.app.train import Plan, TrainReport
from scorefield.app.train import train as _train
from scorefield.app.tune import forget_tuning as _forget_tuning
from scorefield.app.tune import tune as _tune
from scorefield.app.verify import VerifyReport
from scorefield.app.verify import verify as _verify
from scorefield.drawing import NotWritten
from scorefield.evaluation.likelihood import LikelihoodSpec
from scorefield.evaluation.likelihood_report import LikelihoodReport, likelihood_table
from scorefield.evaluation.measure import EvaluateSpec
from scorefield.evaluation.report import QualityReport, quality_table
from scorefield.specs import (
    ComputeSpec,
    DenoiseSpec,
    DistillSpec,
    ImputeSpec,
    InterpolateSpec,
    NoiseLevelSpec,
    OddSpec,
    PointSpec,
    RestoreSpec,
    SampleSpec,
    TrainSpec,
)
from scorefield.tuning.measure import TuneSpec
from scorefield.tuning.report import TuningReport, tuning_table
from scorefield.verification.soundness import Soundness

convert = checked(_convert)
plan = checked(_plan)
train = checked(_train)
sample = checked(_sample)
denoise = checked(_denoise)
restore = checked(_restore)
interpolate = checked(_interpolate)
impute = checked(_impute)
import_ = checked(_import)
inspect = checked(_inspect)
odd = checked(_odd)
distill = checked(_distill)
export = checked(_export)
evaluate = checked(_evaluate)
tune = checked(_tune)
forget_tuning = checked(_forget_tuning)
likelihood = checked(_likelihood)
verify = checked(_verify)

__all__ = [
    "ComputeSpec",
    "ConvertReport",
    "DataPlan",
    "DenoiseReport",
    "DenoiseSpec",
    "DistillReport",
    "DistillSpec",
    "EvaluateSpec",
    "ExportReport",
    "ImportReport",
    "ImputeReport",
    "ImputeSpec",
    "InspectReport",
    "InterpolateReport",
    "InterpolateSpec",
    "LikelihoodReport",
    "LikelihoodSpec",
    "NoiseLevelSpec",
    "NotWritten",
    "OddReport",
    "OddSpec",
    "Plan",
    "PointSpec",
    "QualityReport",
    "RestoreReport",
    "RestoreSpec",
    "SampleReport",
    "SampleSpec",
    "Soundness",
    "TrainReport",
    "TrainSpec",
    "TuneSpec",
    "TuningReport",
    "VerifyReport",
    "convert",
    "denoise",
    "distill",
    "evaluate",
    "export",
    "forget_tuning",
    "import_",
    "impute",
    "inspect",
    "interpolate",
    "likelihood",
    "likelihood_table",
    "odd",
    "plan",
    "quality_table",
    "restore",
    "sample",
    "train",
    "tune",
    "tuning_table",
    "verify",
]

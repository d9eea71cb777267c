"""fedlab: learn federated learning by moving sliders over real clients.

`import fedlab` is quick: what needs TensorFlow, Flask or widgets is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_ROOMS = {  # room -> the public names that live in it
    "attacks": """Attack Backdoor GaussianNoise LabelFlip LittleIsEnough ScaledUpdate SignFlip
        Trigger attacked""",
    "checkpoint": "BadCheckpoint DamagedCheckpoint load_checkpoint",
    "checks": "Refused",
    "codecs": "QSGD ByteCodec Compressor Quantise RandomMask ScaledSign TernGrad TopK codec",
    "conformance": "Examination byte_at examine plot_conversation plot_message",
    "contest": "Duel duel",
    "dashboard": "Board Dashboard DrawingPad Prediction",
    "dashboard.learner": "Learner join",
    "dashboard.quiz": "ExitQuestion Questionnaire",
    "dashboard.teacher": "Classroom",
    "data": "DataError Dataset Mnist load_mnist",
    "federation": "Federation Limits",
    "flower": "FlowerError to_flower",
    "history": "ClientRecord History RoundRecord TaskRecord",
    "http.client": "Client ClientStatus NotAdmitted ServerAway",
    "http.server": "Server",
    "installation": "Finding check",
    "landscape": "LossMap Place Walks loss_levels loss_map plot_loss_map walk_round",
    "messages": """AlreadyCounted BadUpdate Banned ClientFailed Codec Conflict Diverged Full
        NotFinite RunFailed RunOver Task TooFar Training UnknownClient Update Weights local_seed""",
    "original": "Original",
    "model": "Classifier TrainingStopped two_nn",
    "participant": "Participant Transform",
    "partitions": """partition_by_digit partition_by_label partition_by_quantity partition_dirichlet
        partition_iid partition_svg skew""",
    "plan": "Plan Status",
    "plots": "plot_digits plot_history plot_partition",
    "privacy.accountant": "Release delta_for epsilon epsilon_unsampled noise_for",
    "privacy.dp_fed_avg": "dp_fed_avg",
    "privacy.drawing": "plot_rebuilt",
    "privacy.leakage": "Rebuilt rebuild_images rebuild_labels",
    "privacy.trap": "trap_weights",
    "questions": "ClassAnswers Question class_answers plot_answers",
    "robust": """Bulyan ClippedMean FLTrust GeometricMedian Krum MultiKrum bulyan clipped_mean
        fl_trust geometric_median krum multi_krum""",
    "secure.side": "SecureSide",
    "secure.strategy": "secured",
    "simulation": "simulate",
    "strategies": """Adam Finished Mean Median Momentum Replace State Strategy TooFewUpdates
        TrimmedMean Updates Yogi async_average fed_adam fed_async fed_avg fed_avg_momentum fed_buff
        fed_prox fed_yogi median scaffold trimmed_mean weighted_mean""",
    "timeline": "plot_timeline time_axis",
    "virtual": "VirtualClock",
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = sorted(_HOME)

if TYPE_CHECKING:  # so that editors know the names, and what stands behind them
    from fedlab.attacks import (
        Attack,
        Backdoor,
        GaussianNoise,
        LabelFlip,
        LittleIsEnough,
        ScaledUpdate,
        SignFlip,
        Trigger,
        attacked,
    )
    from fedlab.checkpoint import BadCheckpoint, DamagedCheckpoint, load_checkpoint
    from fedlab.checks import Refused
    from fedlab.codecs import (
        QSGD,
        ByteCodec,
        Compressor,
        Quantise,
        RandomMask,
        ScaledSign,
        TernGrad,
        TopK,
        codec,
    )
    from fedlab.conformance import (
        Examination,
        byte_at,
        examine,
        plot_conversation,
        plot_message,
    )
    from fedlab.contest import Duel, duel
    from fedlab.dashboard import Board, Dashboard, DrawingPad, Prediction
    from fedlab.dashboard.learner import Learner, join
    from fedlab.dashboard.quiz import ExitQuestion, Questionnaire
    from fedlab.dashboard.teacher import Classroom
    from fedlab.data import DataError, Dataset, Mnist, load_mnist
    from fedlab.federation import Federation, Limits
    from fedlab.flower import FlowerError, to_flower
    from fedlab.history import ClientRecord, History, RoundRecord, TaskRecord
    from fedlab.http.client import Client, ClientStatus, NotAdmitted, ServerAway
    from fedlab.http.server import Server
    from fedlab.installation import Finding, check
    from fedlab.landscape import (
        LossMap,
        Place,
        Walks,
        loss_levels,
        loss_map,
        plot_loss_map,
        walk_round,
    )
    from fedlab.messages import (
        AlreadyCounted,
        BadUpdate,
        Banned,
        ClientFailed,
        Codec,
        Conflict,
        Diverged,
        Full,
        NotFinite,
        RunFailed,
        RunOver,
        Task,
        TooFar,
        Training,
        UnknownClient,
        Update,
        Weights,
        local_seed,
    )
    from fedlab.model import Classifier, TrainingStopped, two_nn
    from fedlab.original import Original
    from fedlab.participant import Participant, Transform
    from fedlab.partitions import (
        partition_by_digit,
        partition_by_label,
        partition_by_quantity,
        partition_dirichlet,
        partition_iid,
        partition_svg,
        skew,
    )
    from fedlab.plan import Plan, Status
    from fedlab.plots import plot_digits, plot_history, plot_partition
    from fedlab.privacy.accountant import (
        Release,
        delta_for,
        epsilon,
        epsilon_unsampled,
        noise_for,
    )
    from fedlab.privacy.dp_fed_avg import dp_fed_avg
    from fedlab.privacy.drawing import plot_rebuilt
    from fedlab.privacy.leakage import Rebuilt, rebuild_images, rebuild_labels
    from fedlab.privacy.trap import trap_weights
    from fedlab.questions import ClassAnswers, Question, class_answers, plot_answers
    from fedlab.robust import (
        Bulyan,
        ClippedMean,
        FLTrust,
        GeometricMedian,
        Krum,
        MultiKrum,
        bulyan,
        clipped_mean,
        fl_trust,
        geometric_median,
        krum,
        multi_krum,
    )
    from fedlab.secure.side import SecureSide
    from fedlab.secure.strategy import secured
    from fedlab.simulation import simulate
    from fedlab.strategies import (
        Adam,
        Finished,
        Mean,
        Median,
        Momentum,
        Replace,
        State,
        Strategy,
        TooFewUpdates,
        TrimmedMean,
        Updates,
        Yogi,
        async_average,
        fed_adam,
        fed_async,
        fed_avg,
        fed_avg_momentum,
        fed_buff,
        fed_prox,
        fed_yogi,
        median,
        scaffold,
        trimmed_mean,
        weighted_mean,
    )
    from fedlab.timeline import plot_timeline, time_axis
    from fedlab.virtual import VirtualClock
else:  # or a type checker would take any name for one of fedlab's

    def __getattr__(name: str):
        if name not in _HOME:
            raise AttributeError(f"fedlab has no {name!r}; it has {', '.join(__all__)}")
        value = getattr(import_module(f"fedlab.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__

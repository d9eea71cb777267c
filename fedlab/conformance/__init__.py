"""A server that tests a client: a real federation in which every request is written down, and some
answers come late, twice or not at all.

recorder.py      between the socket and the federation: writes down, repeats, loses
evidence.py      what is known of a candidate; a verdict
rules.py         what a client must do where nothing gets lost
lossy.py         what it must do where answers get lost
examination.py   the scenes that a client is led through
candidate.py     a function as a candidate
conversation.py  requests as a picture
message.py       a message's bytes as a picture
"""

from fedlab.conformance.candidate import examine
from fedlab.conformance.conversation import plot_conversation
from fedlab.conformance.evidence import Verdict
from fedlab.conformance.examination import Examination, Report
from fedlab.conformance.message import byte_at, plot_message, stretches
from fedlab.conformance.recorder import Recorder

__all__ = [
    "Examination",
    "Recorder",
    "Report",
    "Verdict",
    "byte_at",
    "examine",
    "plot_conversation",
    "plot_message",
    "stretches",
]

"""Row "damage": a checkpoint cut, flipped or overwritten in every region.

Every time the one before must be taken, and said so. Where a flip changes nothing that is read (it
then gives the very same state and history) that is counted by itself.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np

from fedlab.checkpoint import DamagedCheckpoint, load_checkpoint, save_checkpoint
from fedlab.history import ClientRecord, History, RoundRecord
from fedlab.strategies import State
from stress.result import Result, first, part, say

FULL = 18_000


def history(rounds: int) -> History:
    """Some rounds with clients of any letters, and one that was abandoned."""
    clients = {"ada": ClientRecord(600, 0.9, 0.3), "李": ClientRecord(100)}
    records = [RoundRecord(n, 0.5, 1.0, float(n), 9, 9, clients) for n in range(1, rounds)]
    return History([*records, RoundRecord(rounds, note='abandoned: "1 of 3 updates came"\n')])


def state(rng: np.random.Generator) -> State:
    """Weights of some size, and a memory."""
    weights = [rng.normal(size=(40, 20)).astype(np.float32), np.zeros(20, np.float32)]
    return State(weights, 12_345, {"first": [w + 1 for w in weights]}, "0123456789abcdef")


def damaged(whole: bytes, rng: np.random.Generator, number: int) -> tuple[str, bytes]:
    """(kind, the file) of one damage; the kinds take turns, the places are even over the region."""
    header = 8 + int.from_bytes(whole[:8], "little")
    body = bytearray(whole)
    kind = ("cut", "header flip", "data flip", "byte", "block", "zeros", "longer")[number % 7]
    at = int(rng.integers(len(whole)))
    if kind == "cut":
        body = body[:at]
    elif kind == "header flip":
        body[int(rng.integers(header))] ^= 1 << int(rng.integers(8))
    elif kind == "data flip":
        body[int(rng.integers(header, len(whole)))] ^= 1 << int(rng.integers(8))
    elif kind == "byte":
        body[at] = (body[at] + int(rng.integers(1, 256))) % 256
    elif kind == "block":  # a sector of another file
        body[at : at + 512] = rng.bytes(len(body[at : at + 512]))
    elif kind == "zeros":  # a sector that was never written
        body[at:] = bytes(len(body) - at)
    else:
        body += rng.bytes(int(rng.integers(1, 100)))
    return kind, bytes(body)


def key(found: tuple[State, History]) -> tuple:
    """What two loads have in common when they are the same."""
    state, history = found
    arrays = [*state.weights, *(a for name in sorted(state.memory) for a in state.memory[name])]
    about = sorted(state.memory), state.num_examples, state.lineage, history.to_json()
    return about, [(a.shape, a.dtype.str, a.tobytes()) for a in arrays]


def run(scale: float, seed: int) -> Result:
    """So many damages, the kinds in turn."""
    rng, count = np.random.default_rng(seed), part(scale, FULL, 70)
    noticed, harmless, faults = 0, {}, []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_checkpoint(path, state(rng), history(4), "FedAvg")
        earlier = key(load_checkpoint(path))
        save_checkpoint(path, state(rng), history(5), "FedAvg")
        last, whole = key(load_checkpoint(path)), path.read_bytes()
        for number in range(count):
            kind, body = damaged(whole, rng, number)
            if body == whole:
                continue
            if number % 3_000 == 2_999:
                say(f"{number + 1:,} of {count:,} damages")
            path.write_bytes(body)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                try:
                    found = key(load_checkpoint(path, strategy="FedAvg"))
                except Exception as error:  # whatever it is, it is not the round before
                    found, said = None, []
                    faults.append(f"{kind}: {type(error).__name__}: {error}"[:120])
            warned = any(issubclass(one.category, DamagedCheckpoint) for one in said)
            if found == earlier and warned:
                noticed += 1
            elif found == last and not warned:
                harmless[kind] = harmless.get(kind, 0) + 1
            elif found is not None:
                faults.append(f"{kind}: another state, {'said' if warned else 'without a word'}")
    figures = {"noticed, the one before taken and said": f"{noticed:,}"}
    figures["read all the same, to the bit"] = harmless or "none"
    figures["not noticed"] = first(faults)
    tried = f"{count:,} cuts, flips, sectors and tails in every region of a file"
    return Result("damage", tried, figures, not faults and not harmless)

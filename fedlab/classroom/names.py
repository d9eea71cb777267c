"""Names of a class: those that are given, which are fit for any projector, and those that people
wish for, which a teacher looks at before the class does.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Collection

from fedlab.checks import Refused
from fedlab.messages import check_client_id

LONGEST = 20
"""Characters of a name that is wished for: so many fit under a circle of the picture."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COLOURS = _words(
    """Amber Azure Black Blue Bronze Brown Copper Coral Crimson Golden Green Grey Indigo Ivory Jade
    Lilac Lime Navy Olive Orange Pink Plum Purple Red Ruby Silver Teal Violet White Yellow"""
)
ANIMALS = _words(
    """Badger Bear Bee Bison Cat Crane Crow Deer Dolphin Duck Eagle Falcon Finch Fox Frog Gecko
    Goose Hare Hawk Heron Horse Ibex Jay Koala Lark Lemur Lion Lizard Llama Lynx Mole Moose Newt
    Orca Otter Owl Panda Parrot Puffin Quail Rabbit Raven Robin Salmon Seal Sparrow Stork Swan Tiger
    Toad Trout Turtle Walrus Whale Wolf Wren Yak Zebra"""
)
RUDE = _words(
    "arschloch asshole bastard encule faggot ficken fuck hitler nigga nigger scheiss wichs"
)
RUDE_ALONE = _words(
    """arsch bitch cabron cazzo cock connard cunt dick hure kurwa merde mierda nazi penis porn puta
    pute rape shit slut spast stronzo suka twat vagina wank whore"""
)
"""What is refused at once, in whatever letters: inside a word, too, and only as a word (there are a
Hancock, a Dickens, a Scunthorpe). No list is whole: it spares a teacher the plain cases, and no
name is shown to the class before the teacher has approved it."""

LOOKALIKES = str.maketrans("013457@$!|", "oieastasil")


def given(session: str, taken: Collection[str]) -> str:
    """A name that nobody has (in whatever letters), the same for the same session where it is free:
    so a phone that comes back to a server that was restarted is called as before. Raises Refused
    when all are taken.
    """
    start = int.from_bytes(hashlib.sha256(session.encode("utf-8", "surrogatepass")).digest()[:8])
    whole, had = len(COLOURS) * len(ANIMALS), {folded(name) for name in taken}
    for step in range(whole):
        colour, animal = divmod((start + step * 61) % whole, len(ANIMALS))
        name = f"{COLOURS[colour]} {ANIMALS[animal]}"
        if folded(name) not in had:
            return name
    raise Refused(f"all {whole:,} names are taken; expected a smaller class")


def wished(name: str) -> str:
    """A name that somebody wishes for, as it is kept; "" takes a wish back. Raises Refused."""
    if not isinstance(name, str):
        raise Refused(f"the name is {str(name)[:40]!r}; expected a text")
    plain = " ".join(unicodedata.normalize("NFKC", name).split())
    if not plain:
        return ""
    if len(plain) > LONGEST:
        raise Refused(f"the name has {len(plain)} characters; expected at most {LONGEST}")
    check_client_id(plain)
    read = folded(plain).translate(LOOKALIKES)
    words = {"".join(filter(str.isalpha, word)) for word in (read, *read.split())}
    inside = any(rude in word for word in words for rude in RUDE)
    if inside or words & set(RUDE_ALONE):
        raise Refused("this name cannot be shown to a class; expected another one")
    return plain


def folded(name: str) -> str:
    """What two names have in common that look alike: capitals, accents and full-width letters do
    not make another one.
    """
    split = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in split if not unicodedata.combining(c))

"""The one exception that bad input causes, and the hint at a similar name in its message."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the message is one line that names what is wrong and the way out.

    The command line prints the message and exits with code 2; no file is left half-written.
    """


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'NAME'?` with the most similar of some names, or an empty text.

    >>> did_you_mean("mini_bse", ["mini_base", "mini_large"])
    "; did you mean 'mini_base'?"
    >>> did_you_mean("x", ["mini_base"])
    ''
    """
    similar = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean '{similar[0]}'?" if similar else ""

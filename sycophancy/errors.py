"""The one exception a user's input may cause."""


class UserError(Exception):
    """Bad input: its message is one line that names what is wrong and the way out.

    The command line prints the message and exits with code 2; nothing is half-written.
    """

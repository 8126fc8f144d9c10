"""The one exception whose message is meant for the user: the commands print it without a traceback."""


class UserError(Exception):
    """Something the user can mend. The message names the file, row or key, and says what to do."""

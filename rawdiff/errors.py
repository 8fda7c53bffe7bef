"""The one exception for mistakes that the user can mend."""


class UserError(ValueError):
    """Says what was found and how to mend it; the command line shows it without a trace."""

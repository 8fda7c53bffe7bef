"""What is raised for mistakes that the user can mend."""


class UserError(ValueError):
    """Says what was found and how to mend it; the command line shows it without a trace."""


class WrongDataError(UserError):
    """Data that are there, but not such as the settings say: no plan is made without them."""

"""Errors of an adaptive integration."""


class IntegrationFailed(RuntimeError):
    """The integration cannot continue: the velocity is not finite, or no step is small enough."""


class BudgetExceeded(IntegrationFailed):
    """The evaluations allowed (`max_nfe`) were spent before the end was reached."""

"""flowrl: train, evaluate and time policies that generate their actions with a flow."""

__version__ = "0.1.0"

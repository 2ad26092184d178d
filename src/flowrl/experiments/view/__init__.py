"""A trained policy live in MuJoCo Studio, in a browser: what is simulated, its panel, and the server of its page."""

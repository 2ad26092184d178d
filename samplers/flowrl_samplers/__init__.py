"""The built-in samplers of flowrl, one file each; flowrl finds them by entry point, as it finds yours."""

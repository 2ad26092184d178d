"""The samplers that come with flowrl, one file each; flowrl finds them by entry point, as it finds yours."""

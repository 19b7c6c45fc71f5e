"""Sign a worker package, verify it fail closed against a trust policy and ban lists."""

__version__ = "0.1.0"

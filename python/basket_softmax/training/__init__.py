"""Training runs: a YAML file to checkpoints and logs, with bit-exact resume; what `bbs train` does.

config = bs.training.load_config("run.yaml")
bs.training.train(config)
run = bs.training.load_run(config.output)
"""

from .config import Config
from .dry_run import DryRun, check
from .load import Run, load_run
from .reading import ConfigError, load_config, make_config, parse_yaml, to_yaml
from .run import Summary, train

__all__ = [
    "Config",
    "ConfigError",
    "DryRun",
    "Run",
    "Summary",
    "check",
    "load_config",
    "load_run",
    "make_config",
    "parse_yaml",
    "to_yaml",
    "train",
]

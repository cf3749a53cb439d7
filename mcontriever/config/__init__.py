"""Configurations: one strict, frozen model per verb, read from YAML with `--set section.key=value` on top.

An unknown key or a bad value is one ConfigError that names the file, the key, the nearest valid key, and what is
allowed. Each file holds the models of one verb, or some of their sections: together, the whole list of what can be set.
"""

from mcontriever.config.encoder import EncoderSection
from mcontriever.config.examples import load_examples_recipe
from mcontriever.config.generation import GenerateConfig
from mcontriever.config.loading import dump_config, load_config, parse_config
from mcontriever.config.mining import MineConfig
from mcontriever.config.plan import AlternateSection, PlanConfig, StageSection
from mcontriever.config.pretraining_data import ColumnPairsSection, PretrainData
from mcontriever.config.pretraining_objectives import TemperatureSection
from mcontriever.config.recipe import PrepareRecipe, load_recipe
from mcontriever.config.sections import Section
from mcontriever.config.training import FinetuneConfig, TrainConfig, load_train_config, train_config_of
from mcontriever.config.yaml_files import read_yaml

__all__ = [
    "AlternateSection",
    "ColumnPairsSection",
    "EncoderSection",
    "FinetuneConfig",
    "GenerateConfig",
    "MineConfig",
    "PlanConfig",
    "PrepareRecipe",
    "PretrainData",
    "Section",
    "StageSection",
    "TemperatureSection",
    "TrainConfig",
    "dump_config",
    "load_config",
    "load_examples_recipe",
    "load_recipe",
    "load_train_config",
    "parse_config",
    "read_yaml",
    "train_config_of",
]

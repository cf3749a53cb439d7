"""Configurations: one strict, frozen model per verb, read from YAML with `--set section.key=value` on top.

An unknown key or a bad value is one ConfigError that names the file, the key, the nearest valid key, and what is
allowed. Each file holds the model of one verb, or some of its sections. The models of `train` are in
assembly/training_config.py, because an objective's settings are in the file of the objective.
"""

from mcontriever.config.encoder_section import EncoderSection
from mcontriever.config.examples import load_examples_recipe
from mcontriever.config.finetuning_data import FinetuneData
from mcontriever.config.generation import GenerateConfig
from mcontriever.config.loading import dump_config, load_config, parse_config, parse_one_of
from mcontriever.config.mining import MineConfig
from mcontriever.config.plan import AlternateSection, PlanConfig, StageSection
from mcontriever.config.pretraining_data import ColumnPairsSection, PretrainData
from mcontriever.config.recipe import PrepareRecipe, load_recipe
from mcontriever.config.run_sections import EvaluationSection, RunSection
from mcontriever.config.sections import Section
from mcontriever.config.yaml_files import read_yaml

__all__ = [
    "AlternateSection",
    "ColumnPairsSection",
    "EncoderSection",
    "EvaluationSection",
    "FinetuneData",
    "GenerateConfig",
    "MineConfig",
    "PlanConfig",
    "PrepareRecipe",
    "PretrainData",
    "RunSection",
    "Section",
    "StageSection",
    "dump_config",
    "load_config",
    "load_examples_recipe",
    "load_recipe",
    "parse_config",
    "parse_one_of",
    "read_yaml",
]

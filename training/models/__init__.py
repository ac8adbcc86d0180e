"""The DCAT ranker and its oracle. Imports torch alone, so that it runs on a bare GPU machine."""

from training.models.description import ModelInputs, Task
from training.models.ranker import Ranker, RankerConfig

__all__ = ["ModelInputs", "Ranker", "RankerConfig", "Task"]

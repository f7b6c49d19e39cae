"""What ``warm`` has its server import: the libraries that a run loads, and its own heavy modules."""

import accelerate  # noqa: F401
import sklearn.metrics  # noqa: F401
import torch  # noqa: F401
import transformers
from transformers.models.llama import modeling_llama  # noqa: F401
from transformers.models.roberta import modeling_roberta  # noqa: F401

import junkdna.families.encoder.tuning
import junkdna.families.qa.asking  # noqa: F401

LOADED = transformers.AutoModelForSequenceClassification, transformers.AutoModelForCausalLM, transformers.AutoTokenizer

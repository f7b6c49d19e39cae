"""tmp"""

__version__ = "0.1.0"


def __getattr__(name):
    import importlib

    table = {"find_scope": "scope", "hold": "hold", "prune": "census"}
    if name in table:
        return getattr(importlib.import_module(f"junkdna.sparsity.{table[name]}"), name)
    raise AttributeError(name)

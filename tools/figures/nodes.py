"""Nodes called as plain functions."""

import torch


def make_functions(pack):
    """Make every node of a pack as a function of its inputs; defaults are filled in."""

    def caller(cls):
        def call(**inputs):
            schema = cls.INPUT_TYPES()["required"]
            defaults = {
                name: spec[1]["default"]
                for name, spec in schema.items()
                if len(spec) > 1 and "default" in spec[1]
            }
            values = {**defaults, **inputs}
            if getattr(cls, "INPUT_IS_LIST", False):
                values = {
                    name: value if isinstance(value, list) else [value] for name, value in values.items()
                }
            with torch.inference_mode():
                return cls().execute(**values)

        return call

    return {name: caller(cls) for name, cls in pack.NODE_CLASS_MAPPINGS.items()}

"""The English texts of the nodes, as their sources say them, for ComfyUI's page: `python -m tools.locales`.

Writes locales/en/nodeDefs.json. After a change of English texts run it, then translate what changed in the
other locales.
"""

import json
from pathlib import Path

from runner.pack import load_pack

FOLDER = Path(__file__).resolve().parents[1] / "locales"


def list_inputs(cls) -> dict[str, dict]:
    """List the options of each input, in order."""
    schema = cls.INPUT_TYPES()
    return {
        name: spec[1]
        for section in ("required", "optional")
        for name, spec in schema.get(section, {}).items()
    }


def write_english(pack) -> dict:
    """Write the English texts of the nodes, in the form of ComfyUI's nodeDefs.json."""
    return {name: write_node(pack, name, cls) for name, cls in pack.NODE_CLASS_MAPPINGS.items()}


def write_node(pack, node: str, cls) -> dict:
    """Write the texts of one node. The page adds a widget to seeds; outputs without a name of their own are
    shown by type."""
    inputs = {}
    for name, options in list_inputs(cls).items():
        inputs[name] = {"name": name, "tooltip": options["tooltip"]}
        if options.get("control_after_generate"):
            inputs["control_after_generate"] = {"name": "control after generate"}
    outputs = [{"tooltip": tooltip} for tooltip in getattr(cls, "OUTPUT_TOOLTIPS", ())]
    for output, name in zip(outputs, getattr(cls, "RETURN_NAMES", ()), strict=False):
        output["name"] = name
    texts = {
        "display_name": pack.NODE_DISPLAY_NAME_MAPPINGS[node],
        "description": cls.DESCRIPTION,
        "inputs": inputs,
    }
    return texts | ({"outputs": {str(i): output for i, output in enumerate(outputs)}} if outputs else {})


if __name__ == "__main__":
    text = json.dumps(write_english(load_pack()), indent=2, ensure_ascii=False) + "\n"
    (FOLDER / "en" / "nodeDefs.json").write_text(text, encoding="utf-8")

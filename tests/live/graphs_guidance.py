"""Graphs of guidance options and negatives: name -> Graph."""

from graph import (
    APPLE,
    DUAL,
    IMAGE,
    PICTURE,
    ROCKET,
    STRAWBERRY,
    TEXT,
    Graph,
    Node,
    empty,
    empty_text,
    ksampler,
    node,
    picture,
    prompt,
    seen,
    sentence,
)

MODEL = IMAGE[0]
PLAIN = picture(ksampler(MODEL, APPLE, empty(), cfg=6.0))


def options(model, **changes) -> Node:
    """The model after the node with its defaults."""
    defaults = {
        "start": 0.2,
        "end": 0.8,
        "rescale": 0.0,
        "threshold": "dynamic",
        "percentile": 0.995,
        "bound": 4.0,
    }
    return node("VD_Guidance", model=model, **{**defaults, **changes})


def drawn(model, context: Node = APPLE, **changes) -> Node:
    """A picture at a high cfg."""
    return picture(ksampler(model, context, empty(), cfg=6.0, **changes))


GUIDED = options(MODEL)
PAG, SHIFTED = (
    node("PerturbedAttentionGuidance", model=MODEL, scale=3.0),
    node("ModelSamplingAuraFlow", model=MODEL, shift=1.73),
)
MULTI_FLOW = {
    "latent_image": empty(),
    "seed": 1,
    "steps": 6,
    "cfg": 6.0,
    "sampler": "ddim",
    "eta": 0.0,
    "fidelity": 0.0,
}


def multi_flow(model, positive=APPLE[0], negative=APPLE[1]) -> Node:
    """The same through the multi-flow sampler."""
    return picture(
        node(
            "VD_Sampler", model=model, positive=positive, negative=negative, noise="per sample", **MULTI_FLOW
        )
    )


GRAPHS: dict[str, Graph] = {
    "guidance-options": Graph("Guidance Options (VD), KSampler", drawn(GUIDED), differs=PLAIN),
    "guidance-options-multi-flow": Graph(
        "Guidance Options (VD), Multi-Flow Sampler (VD)", multi_flow(GUIDED), differs=multi_flow(MODEL)
    ),
    "guidance-options-text": Graph(
        "Guidance Options (VD), text model",
        sentence(ksampler(options(TEXT[0], rescale=0.7), APPLE, empty_text(), cfg=6.0)),
    ),
    "guidance-options-dual": Graph("The same, dual context", drawn(GUIDED, DUAL), differs=drawn(MODEL, DUAL)),
    "guidance-options-pag": Graph(
        "After PerturbedAttentionGuidance", drawn(options(PAG)), differs=drawn(GUIDED)
    ),
    "guidance-options-rescale": Graph(
        "After RescaleCFG",
        drawn(options(node("RescaleCFG", model=MODEL, multiplier=0.7), threshold="static", bound=1.0)),
        differs=PLAIN,
    ),
    "guidance-options-sag": Graph(
        "Before SelfAttentionGuidance",
        drawn(node("SelfAttentionGuidance", model=GUIDED, scale=0.5, blur_sigma=2.0)),
        differs=drawn(GUIDED),
    ),
    "guidance-options-easycache": Graph(
        "Before EasyCache",
        drawn(
            node(
                "EasyCache",
                model=GUIDED,
                reuse_threshold=0.2,
                start_percent=0.15,
                end_percent=0.95,
                verbose=False,
            )
        ),
    ),
    "guidance-options-flow": Graph(
        "A model that predicts flows",
        drawn(options(SHIFTED, rescale=0.7), scheduler="simple"),
        differs=drawn(SHIFTED, scheduler="simple"),
    ),
    "guidance-options-cfg-pp": Graph(
        "euler_cfg_pp",
        drawn(GUIDED, sampler_name="euler_cfg_pp"),
        differs=drawn(MODEL, sampler_name="euler_cfg_pp"),
    ),
    "negative-text": Graph(
        "A prompt with a negative", drawn(MODEL, prompt("red apple, 3d style", "3d style")), differs=PLAIN
    ),
    "negative-picture": Graph(
        "A picture as negative",
        drawn(MODEL, STRAWBERRY, negative=ROCKET[0]),
        differs=drawn(MODEL, STRAWBERRY),
    ),
    "negative-picture-multi-flow": Graph(
        "The same, Multi-Flow Sampler (VD)",
        multi_flow(MODEL, STRAWBERRY[0], ROCKET[0]),
        differs=multi_flow(MODEL, STRAWBERRY[0], STRAWBERRY[1]),
    ),
    "negative-zeros-multi-flow": Graph(
        "ConditioningZeroOut as negative, Multi-Flow Sampler (VD)",
        multi_flow(MODEL, APPLE[0], node("ConditioningZeroOut", conditioning=APPLE[0])),
        differs=multi_flow(MODEL),
    ),
    **{
        f"unconditional-{choice}": Graph(
            f"unconditional {choice}", drawn(MODEL, seen(PICTURE, choice)), differs=drawn(MODEL, STRAWBERRY)
        )
        for choice in ("black", "grey")
    },
}

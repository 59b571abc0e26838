"""The host inside ComfyUI: flows, encoders and autoencoders are core's objects, so that its own nodes work
with them."""

from .version import explain_missing

try:
    from .advice import tell
    from .clip import (
        conditioning_options,
        count_tokens,
        doubt_below,
        embed_image,
        embed_text,
        encode_image,
        encode_text,
        weigh_tokens,
    )
    from .files import (
        load_clip,
        load_clip_vision,
        load_flow,
        load_image_vae,
        load_pfd,
        load_seecoder,
        load_text_vae,
    )
    from .folders import diffuser_names, file_names, find, find_part, output_place
    from .guidance import with_guidance
    from .image_vae import encode_sample
    from .lora import load_lora
    from .low_pass import guide_low_pass
    from .sampling import config, invert, official_ddim, sample
    from .seecoder import check_width
    from .shift import schedule_of, shift_resolution
    from .steering import decode, steer
    from .wiring import register
except ImportError as error:
    raise explain_missing(error) from error

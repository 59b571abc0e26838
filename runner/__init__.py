"""Run ComfyUI workflow files: in this process, on a running server, or in a checkout started for it."""

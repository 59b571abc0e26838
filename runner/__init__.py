"""Run ComfyUI workflow files from the command line: in this process, on a running server, or in a checkout started for it."""

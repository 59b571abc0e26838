"""Versatile Diffusion as a small Python package: one multi-flow diffusion core, independent of ComfyUI."""

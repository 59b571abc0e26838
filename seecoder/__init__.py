"""SeeCoder: the image encoder of Prompt-Free Diffusion (Xu et al.

2023), whose tokens take the place of CLIP's in Stable Diffusion 1.
"""

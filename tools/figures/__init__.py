"""Figures of docs/figures.md on the embedded model, a program for each group."""

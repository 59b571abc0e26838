"""What can go wrong with a run, in one sentence each."""

from __future__ import annotations


class WorkflowError(ValueError):
    """What is wrong with a workflow or with how it is to be run, in one sentence."""


class JobError(WorkflowError):
    """What went wrong while a workflow ran, in one sentence."""

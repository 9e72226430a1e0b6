"""`motive model build`: from a released source repository to the variant that one kind of processor runs fastest.

Needs onnx and onnxruntime alone: no torch, no transformers. The source is the one that is kept in version control;
variants are derived where they run.
"""

from sidecar.model_build.variant import VARIANTS, BuildError, build_variant

__all__ = ["VARIANTS", "BuildError", "build_variant"]

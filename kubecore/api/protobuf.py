"""Objects in Kubernetes' protobuf. Facade of ``_native.protobuf_*``."""

from __future__ import annotations

import functools

from kubecore._native import protobuf_decode as decode
from kubecore._native import protobuf_encode as encode
from kubecore._native import protobuf_frame as frame
from kubecore._native import protobuf_knows
from kubecore._native import protobuf_openapi_v3 as encode_openapi_v3

__all__ = ["FRAME_HEAD_BYTES", "MEDIA", "STREAM_MEDIA", "decode", "encode", "encode_openapi_v3", "frame", "has_form"]

MEDIA = "application/vnd.kubernetes.protobuf"
STREAM_MEDIA = f"{MEDIA};stream=watch"
FRAME_HEAD_BYTES = 4
"""Of a frame: the length of the event that follows."""

has_form = functools.lru_cache(maxsize=1024)(protobuf_knows)
"""Whether objects of (apiVersion, kind) have a protobuf form; custom ones have none."""

"""GetModel: the model and its taxonomy as JSON, in the form that motive.register_model() reads."""

import json
from typing import Any

from sidecar.client.answers import Answer, checked_code, checked_taxonomy_digest, detail_of, model_version
from sidecar.client.channel import Address, Call
from sidecar.pb.motive_pb2 import GetModelRequest

BREAKERS = {1: "closed", 2: "half_open", 3: "open"}
"""By the number of motive.v1.BreakerState."""

FIELDS = ("group", "name_en", "name_zh", "definition_en", "definition_zh", "source")


def get_model(plpy: Any, address: Address, seconds: float) -> Answer:
    """See sidecar.client.get_model."""
    with Call(address, "GetModel", GetModelRequest(), seconds) as call:
        document = json.dumps(_document(call.wait(plpy)), ensure_ascii=True).replace("\\u0000", "")
        return Answer(model=document, detail=detail_of(call.request_id))


def _document(response: Any) -> dict[str, Any]:
    said = response.model
    model_version(said.name, said.version, said.digest)
    return {
        "name": said.name,
        "version": said.version,
        "digest": said.digest.hex(),
        "taxonomy_digest": checked_taxonomy_digest(said.taxonomy_digest).hex(),
        "engine": response.engine,
        "server_version": response.server_version,
        "ready": response.ready,
        "release_error": response.release_error,
        "backends": [
            {
                "address": backend.address,
                "breaker": BREAKERS.get(backend.breaker, "unknown"),
                "reason": backend.reason,
                "batches": backend.batches,
            }
            for backend in response.backends
        ],
        "taxonomy": [
            {
                "code": checked_code(entry.code),
                "abstention": entry.abstention,
                **{field: getattr(entry, field) for field in FIELDS},
            }
            for entry in response.taxonomy
        ],
    }

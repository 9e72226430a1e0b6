from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BACKFILL: _ClassVar[Priority]

class TextErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEXT_ERROR_REASON_UNSPECIFIED: _ClassVar[TextErrorReason]
    TEXT_ERROR_REASON_TOO_LONG: _ClassVar[TextErrorReason]
    TEXT_ERROR_REASON_NOT_FINITE: _ClassVar[TextErrorReason]

class BreakerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BREAKER_STATE_UNSPECIFIED: _ClassVar[BreakerState]
    BREAKER_STATE_CLOSED: _ClassVar[BreakerState]
    BREAKER_STATE_HALF_OPEN: _ClassVar[BreakerState]
    BREAKER_STATE_OPEN: _ClassVar[BreakerState]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BACKFILL: Priority
TEXT_ERROR_REASON_UNSPECIFIED: TextErrorReason
TEXT_ERROR_REASON_TOO_LONG: TextErrorReason
TEXT_ERROR_REASON_NOT_FINITE: TextErrorReason
BREAKER_STATE_UNSPECIFIED: BreakerState
BREAKER_STATE_CLOSED: BreakerState
BREAKER_STATE_HALF_OPEN: BreakerState
BREAKER_STATE_OPEN: BreakerState

class ClassifyRequest(_message.Message):
    __slots__ = ("texts", "priority", "redacted", "redactions", "require_model")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    REDACTED_FIELD_NUMBER: _ClassVar[int]
    REDACTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_MODEL_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    priority: Priority
    redacted: bool
    redactions: int
    require_model: str
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., priority: _Optional[_Union[Priority, str]] = ..., redacted: bool = ..., redactions: _Optional[int] = ..., require_model: _Optional[str] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("results", "model")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Classification]
    model: ModelVersion
    def __init__(self, results: _Optional[_Iterable[_Union[Classification, _Mapping]]] = ..., model: _Optional[_Union[ModelVersion, _Mapping]] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("motives", "confidence", "error")
    MOTIVES_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    motives: _containers.RepeatedCompositeFieldContainer[ScoredMotive]
    confidence: float
    error: TextError
    def __init__(self, motives: _Optional[_Iterable[_Union[ScoredMotive, _Mapping]]] = ..., confidence: _Optional[float] = ..., error: _Optional[_Union[TextError, _Mapping]] = ...) -> None: ...

class ScoredMotive(_message.Message):
    __slots__ = ("motive", "confidence")
    MOTIVE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    motive: str
    confidence: float
    def __init__(self, motive: _Optional[str] = ..., confidence: _Optional[float] = ...) -> None: ...

class TextError(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: TextErrorReason
    message: str
    def __init__(self, reason: _Optional[_Union[TextErrorReason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("text", "redacted", "redactions")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REDACTED_FIELD_NUMBER: _ClassVar[int]
    REDACTIONS_FIELD_NUMBER: _ClassVar[int]
    text: str
    redacted: bool
    redactions: int
    def __init__(self, text: _Optional[str] = ..., redacted: bool = ..., redactions: _Optional[int] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("result", "evidence", "model")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    result: Classification
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    model: ModelVersion
    def __init__(self, result: _Optional[_Union[Classification, _Mapping]] = ..., evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ..., model: _Optional[_Union[ModelVersion, _Mapping]] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("motive", "start", "stop", "weight")
    MOTIVE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    motive: str
    start: int
    stop: int
    weight: float
    def __init__(self, motive: _Optional[str] = ..., start: _Optional[int] = ..., stop: _Optional[int] = ..., weight: _Optional[float] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "taxonomy", "engine", "max_texts", "max_text_bytes", "max_message_bytes", "server_version", "ready", "backends", "release_error", "release_refused")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TAXONOMY_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXTS_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ERROR_FIELD_NUMBER: _ClassVar[int]
    RELEASE_REFUSED_FIELD_NUMBER: _ClassVar[int]
    model: ModelVersion
    taxonomy: _containers.RepeatedCompositeFieldContainer[TaxonomyEntry]
    engine: str
    max_texts: int
    max_text_bytes: int
    max_message_bytes: int
    server_version: str
    ready: bool
    backends: _containers.RepeatedCompositeFieldContainer[Backend]
    release_error: str
    release_refused: bool
    def __init__(self, model: _Optional[_Union[ModelVersion, _Mapping]] = ..., taxonomy: _Optional[_Iterable[_Union[TaxonomyEntry, _Mapping]]] = ..., engine: _Optional[str] = ..., max_texts: _Optional[int] = ..., max_text_bytes: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., server_version: _Optional[str] = ..., ready: bool = ..., backends: _Optional[_Iterable[_Union[Backend, _Mapping]]] = ..., release_error: _Optional[str] = ..., release_refused: bool = ...) -> None: ...

class Backend(_message.Message):
    __slots__ = ("address", "breaker", "reason", "batches")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    address: str
    breaker: BreakerState
    reason: str
    batches: int
    def __init__(self, address: _Optional[str] = ..., breaker: _Optional[_Union[BreakerState, str]] = ..., reason: _Optional[str] = ..., batches: _Optional[int] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("name", "version", "digest", "taxonomy_digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TAXONOMY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    digest: bytes
    taxonomy_digest: bytes
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[bytes] = ..., taxonomy_digest: _Optional[bytes] = ...) -> None: ...

class TaxonomyEntry(_message.Message):
    __slots__ = ("code", "group", "name_en", "name_zh", "definition_en", "definition_zh", "source", "abstention")
    CODE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    NAME_EN_FIELD_NUMBER: _ClassVar[int]
    NAME_ZH_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_EN_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_ZH_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ABSTENTION_FIELD_NUMBER: _ClassVar[int]
    code: str
    group: str
    name_en: str
    name_zh: str
    definition_en: str
    definition_zh: str
    source: str
    abstention: bool
    def __init__(self, code: _Optional[str] = ..., group: _Optional[str] = ..., name_en: _Optional[str] = ..., name_zh: _Optional[str] = ..., definition_en: _Optional[str] = ..., definition_zh: _Optional[str] = ..., source: _Optional[str] = ..., abstention: bool = ...) -> None: ...

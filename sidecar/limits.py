"""Every limit and default that two parts must agree on, in one place.

The comments of proto/motive.proto and the defaults of the SQL settings are tested against these numbers.
"""

from typing import Final

MAX_TEXTS: Final = 10_000
"""Texts in one Classify request."""

MAX_TEXT_BYTES: Final = 65_536
"""UTF-8 bytes in one text. A longer one is refused, never cut."""

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Bytes in one gRPC message, both ways."""

CLIENT_BATCH_TEXTS: Final = 256
"""Texts that the client puts into one request; it splits longer arrays. Small enough to end within the deadline."""

CLIENT_BATCH_BYTES: Final = 128 * 1024
"""Bytes of text that the client puts into one request."""

CLIENT_REQUESTS_IN_FLIGHT: Final = 2
"""Requests of one call that the client keeps going: the engine never waits for the next one to arrive, and finds
enough texts of every length for full batches."""

CLIENT_TEXTS_PER_DEADLINE: Final = 32
"""A request of more texts than this may take the deadline again for each further so many of them."""

CLIENT_BYTES_PER_DEADLINE: Final = 16 * 1024
"""The same for a request of several texts with more bytes than this: two cores compute so much in about a second."""

MAX_CODE: Final = 63
"""Characters in the code of a motive."""

POLL_INTERVAL_S: Final = 0.02
"""Seconds between two looks for a cancel while a backend waits for an answer."""

DEFAULT_DEADLINE_MS: Final = 5_000
"""Milliseconds that one request of a direct SQL call may take, when statement_timeout leaves more."""

CACHE_TEXTS: Final = 100_000
"""Answers that the sidecar remembers."""

BATCH_TOKENS: Final = 2_048
"""Tokens, padding included, in one batch for the engine."""

BATCH_ROWS: Final = 256
"""Windows in one batch; Triton's max_batch_size is the same."""

MAX_ADMITTED_TEXTS: Final = 20_000
"""Texts that the sidecar holds at once, over all calls; above it a call is refused with RESOURCE_EXHAUSTED."""

MIN_TOKEN: Final = 16
"""Characters in a token, at least."""

MAX_SOCKET_PATH: Final = 107
"""Bytes in the path of a Unix socket: the kernel's limit."""

DRAIN_GRACE_S: Final = 10.0
"""Seconds that calls in flight have to finish after SIGTERM."""

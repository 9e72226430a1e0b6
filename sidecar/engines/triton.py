"""The Triton engine: sends batches to whichever of several Triton servers has the least to do and can answer.

Each address has a breaker; a batch that one address cannot take, or answers with an error, goes to the next while time
is left, which is safe, as computing twice changes nothing. An error counts against an address only where another one
answers the same batch: else its texts may be at fault, and whoever sent them finds out which.
"""

import asyncio
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sidecar import request_id
from sidecar.engines import Backend
from sidecar.engines.breaker import Attempt, Breaker
from sidecar.engines.triton_endpoint import LONGEST_S, ServedModel, TritonEndpoint
from sidecar.errors import DeadlineError, InternalError, MotiveError, OverloadError, UnavailableError
from sidecar.repository import Repository
from sidecar.tls import CertificateFiles
from sidecar.traces import span


class TritonEngine:
    """Computes on the Triton servers at `addresses`, which need not be up yet. `model` is its name there."""

    name = "triton"
    cancellable = True

    def __init__(
        self,
        repository: Repository,
        addresses: Sequence[str],
        model: str,
        *,
        batches: int = 2,
        tls: CertificateFiles | None = None,
    ) -> None:
        """`batches` is how many go to each address at once: enough for Triton to have the next one at hand."""
        self.repository = repository
        self.parallel = batches * len(addresses)
        served = ServedModel(model, repository.calibration.outputs, repository.manifest.files["1/model.onnx"])
        self._probing: asyncio.Task[bool] | None = None
        self._endpoints = [TritonEndpoint(address, served, tls, Breaker()) for address in addresses]

    @property
    def any_length(self) -> bool:
        """Whether every address computes on processors: see TritonEndpoint.any_length."""
        return all(one.any_length for one in self._endpoints)

    async def infer(
        self,
        input_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        *,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> NDArray[np.float32]:
        """input_ids, attention_mask [batch, tokens] -> logits [batch, outputs]; cancelling it cancels it in Triton."""
        inputs = (("input_ids", input_ids), ("attention_mask", attention_mask))
        end = time.monotonic() + (LONGEST_S if timeout_s is None else timeout_s)
        tried: list[TritonEndpoint] = []
        doubts: list[tuple[Breaker, Attempt, InternalError]] = []
        last: MotiveError | None = None
        if self._probing is None:
            await self._probe_again()
        try:
            while (endpoint := self._choose(tried)) is not None:
                tried.append(endpoint)
                left = end - time.monotonic()
                if left <= 0:
                    raise DeadlineError("the deadline passed before Triton answered")
                attempt = endpoint.breaker.begin()
                if attempt.trial and self._choose(tried) is not None:
                    left /= 2  # should it not be answered, another has the other half
                try:
                    logits = await self._ask(endpoint, attempt, inputs, left, priority)
                except InternalError as error:
                    doubts.append((endpoint.breaker, attempt, error))
                except (UnavailableError, OverloadError, DeadlineError) as error:
                    last = error
                    self._probe_again()
                else:
                    while doubts:
                        breaker, doubted, doubt = doubts.pop()
                        breaker.failure(doubted, doubt.message)
                    return logits
            if doubts:
                raise doubts[0][2]
            raise last or UnavailableError(self._why())
        finally:
            for breaker, doubted, doubt in doubts:
                breaker.answered(doubted, doubt.message)

    async def _ask(
        self,
        endpoint: TritonEndpoint,
        attempt: Attempt,
        inputs: Sequence[tuple[str, NDArray[np.int64]]],
        timeout_s: float,
        priority: int,
    ) -> NDArray[np.float32]:
        """Asks one address, and tells its breaker how that ended, unless with an InternalError."""
        breaker = endpoint.breaker
        try:
            requests = request_id.current.get()
            with span("triton", address=endpoint.address, rows=len(inputs[0][1]), requests=requests):
                logits = await endpoint.infer(inputs, timeout_s, priority)
        except InternalError:
            raise
        except UnavailableError as error:
            breaker.failure(attempt, error.message)
            raise
        except OverloadError:
            # It answers, though not this: no reason to stop asking.
            breaker.answered(attempt)
            raise
        except BaseException:
            # The deadline, here or at the callers, who cancel this.
            breaker.given_up(attempt, f"Triton at {endpoint.address} did not answer in the time allowed", timeout_s)
            raise
        breaker.answered(attempt)
        return logits

    def _choose(self, tried: Sequence[TritonEndpoint]) -> TritonEndpoint | None:
        """The least busy address that may be asked."""
        able = [one for one in self._endpoints if one.ready and one not in tried and one.breaker.allows()]
        return min(able, key=lambda one: one.batches, default=None)

    def _why(self) -> str:
        reasons = (f"{one.address}: {one.fault or 'one batch is trying it'}" for one in self._endpoints)
        return "no Triton server can be asked; " + "; ".join(reasons)

    async def ready(self) -> bool:
        """Whether a batch would be answered now; finds out anew, and has the model loaded where it is missing."""
        return await self._probe_again()

    def _probe_again(self) -> "asyncio.Task[bool]":
        """Probes every address, unless that is under way: after a failure, the next look would be late."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe())
        return self._probing

    async def _probe(self) -> bool:
        await asyncio.gather(*(one.probe() for one in self._endpoints))
        return any(one.ready and one.breaker.allows() for one in self._endpoints)

    def backends(self) -> Sequence[Backend]:
        """Each address as it is now."""
        return [Backend(one.address, one.state, one.fault, one.batches, one.ready) for one in self._endpoints]

    async def close(self) -> None:
        """Ends the connections."""
        if self._probing is not None:
            # Not cancelled: whoever awaits it, such as the server's watch, would be cancelled with it. It ends soon.
            await asyncio.gather(self._probing, return_exceptions=True)
        await asyncio.gather(*(one.close() for one in self._endpoints))

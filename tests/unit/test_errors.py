"""One table of faults: every status has one meaning, on every side."""

import grpc
import pytest

from sidecar import errors
from sidecar.errors import FAULTS, MotiveError, fault_of_error, fault_of_status


def test_every_fault_is_complete_and_stands_once() -> None:
    assert len({fault.error for fault in FAULTS}) == len({fault.status for fault in FAULTS}) == len(FAULTS)
    assert len({fault.sqlstate for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        assert fault.status in grpc.StatusCode.__members__
        assert len(fault.sqlstate) == 5
        assert fault.hint.endswith(".")


@pytest.mark.parametrize("status", [status.name for status in grpc.StatusCode if status is not grpc.StatusCode.OK])
def test_every_status_of_grpc_has_a_fault(status: str) -> None:
    assert fault_of_status(status) in FAULTS


def test_an_unlisted_status_is_internal() -> None:
    assert fault_of_status("NEW_IN_GRPC_9").status == "INTERNAL"


def test_an_error_and_its_status_lead_to_the_same_fault() -> None:
    for fault in FAULTS:
        assert fault_of_error(fault.error("wrong")) is fault_of_status(fault.status)


def test_only_faults_of_the_service_are_worth_retrying() -> None:
    assert {fault.error for fault in FAULTS if not fault.retry} == {errors.InputError, errors.VersionError}


def test_an_error_without_a_fault_of_its_own_is_internal() -> None:
    assert fault_of_error(MotiveError("odd")).status == "INTERNAL"

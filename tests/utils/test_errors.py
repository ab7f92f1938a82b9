"""One-line messages of exceptions."""

import pytest
from torch._utils import ExceptionWrapper

from adain.utils.errors import ContentError, first_line, one_line


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "MPS backend out of memory (MPS allocated: 1.00 GB)",
        "[enforce fail at alloc_cpu.cpp:9] . DefaultCPUAllocator: can't allocate memory: you tried",
        "DefaultCPUAllocator: not enough memory: you tried",
        "unable to mmap 8 bytes from file </torch>: Cannot allocate memory (12)",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "std::bad_alloc",
    ],
)
def test_a_lack_of_memory_is_reported(message):
    assert one_line(RuntimeError(message), "use less") == "out of memory; use less"
    assert one_line(MemoryError(), "use less") == "out of memory; use less"


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: an illegal memory access was encountered",
        "unsupported memory format option 5",
        "some elements of the input tensor and the written-to tensor refer to a single memory location",
    ],
)
def test_other_errors_with_the_word_memory_are_raised(message):
    error = RuntimeError(message)
    with pytest.raises(RuntimeError) as raised:
        one_line(error)
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("failed\nsee the log"), "failed see the log"),
        (ValueError("failed: twice"), "failed: twice"),
        (ContentError("failed\n\nsee  the log\n"), "failed see the log"),
        (FileNotFoundError("no such file"), "no such file"),
    ],
)
def test_errors_of_data_loader_workers_lose_their_tracebacks(error, expected):
    assert one_line(error) == expected
    try:
        try:
            raise ValueError("an earlier one")
        except ValueError as cause:
            raise error from cause
    except (ValueError, OSError):
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(type(error), match="Traceback") as raised:
        wrapped.reraise()
    assert one_line(raised.value) == expected


def test_an_error_without_a_message_has_a_first_line():
    assert first_line(ValueError()) == "ValueError"
    assert first_line(ValueError("\none\ntwo")) == "one"

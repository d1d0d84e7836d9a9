"""Weights from the network: what cannot be had is said in one line, soon."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from onnxeq.errors import OnnxeqError, WeightsUnavailable

__all__ = ["bounded", "require_hub"]

_CONNECT_S = 10.0
"""For one connection, and between two packets: the libraries wait for ever, or try six times."""


@contextlib.contextmanager
def bounded(what: str, hint: str) -> Iterator[None]:
    """Limits how long the network may be silent inside the block, and says what could not be had.

    Raises:
        WeightsUnavailable: Whatever the block raised, with its reason and ``hint``.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_CONNECT_S)
    try:
        yield
    except OnnxeqError:
        raise
    except Exception as error:  # a network, a server, a broken file: each library raises its own
        reason = " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())
        raise WeightsUnavailable(f"{what} could not be had: {reason}", hint=hint) from error
    finally:
        socket.setdefaulttimeout(before)


def require_hub() -> None:
    """Asks the Hugging Face hub for a sign of life, once, since its client would try for minutes.

    Raises:
        OSError: The hub cannot be reached.
    """
    from huggingface_hub import constants, get_session

    if constants.is_offline_mode():
        raise OSError("the hub's client is told to stay offline (HF_HUB_OFFLINE)")
    try:
        get_session().head(constants.ENDPOINT, timeout=_CONNECT_S)
    except Exception as error:
        raise OSError(f"{constants.ENDPOINT} cannot be reached: {error}") from error

"""Addresses for fake pods: each kubelet claims a /16 of 127.0.0.0/8 and gives every pod one of its own.

All of 127.0.0.0/8 answers on Linux without any set-up, so a pod's stand-in can listen on its pod's own address, and a
client that finds the address in the pod's status reaches it.
"""

from __future__ import annotations

import random
import socket
import threading

from medley.lab.processes import can_bind
from medley.model.errors import TransientError

_CLAIM_PORT = 10250  # a kubelet's own port
_SECOND_OCTETS = range(2, 255)  # 127.0/16 and 127.1/16 hold localhost, resolvers and hosts-file entries


class AddressBlock:
    """The addresses that one fake kubelet hands out.

    A listener on the block's last address is the claim: a second kubelet on this machine, in whatever process, cannot
    open it and looks for another block.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[int, socket.socket] = {}
        self._taken: set[str] = set()
        self._next = 0
        self._octet = self._claim_any()

    def allocate(self, port: int | None) -> str:
        """An address that no pod has and on which `port` is free; not reused before the whole block went round."""
        with self._lock:
            for _ in range(254 * 254):
                third, fourth = divmod(self._next, 254)
                self._next = (self._next + 1) % (254 * 254)
                address = f"127.{self._octet}.{third}.{fourth + 1}"
                if address not in self._taken and can_bind(address, port or 0):
                    self._taken.add(address)
                    return address
        raise TransientError(f"no free address left in 127.{self._octet}.0.0/16")

    def adopt(self, address: str) -> None:
        """Marks an address as taken that an earlier kubelet gave, and claims its block against others."""
        with self._lock:
            self._taken.add(address)
            octets = address.split(".")
            if octets[0] == "127":
                self._claim(int(octets[1]))

    def release(self, address: str) -> None:
        """Takes an address back."""
        with self._lock:
            self._taken.discard(address)

    def close(self) -> None:
        """Gives up all claims."""
        with self._lock:
            for listener in self._claims.values():
                listener.close()
            self._claims.clear()

    def _claim_any(self) -> int:
        for octet in random.SystemRandom().sample(_SECOND_OCTETS, len(_SECOND_OCTETS)):
            if self._claim(octet):
                return octet
        raise TransientError("every block of 127.0.0.0/8 is taken by another lab on this machine")

    def _claim(self, octet: int) -> bool:
        if octet in self._claims:
            return True
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.bind((f"127.{octet}.255.254", _CLAIM_PORT))
            listener.listen(1)
        except OSError:
            listener.close()
            return False
        self._claims[octet] = listener
        return True

"""What CUDA shows a process, asked through the driver's own library: no toolkit, no PyTorch."""

from __future__ import annotations

import ctypes
import uuid

_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


class Cuda:
    """The devices of this process. Sources: CUDA Driver API, "Device" and "Memory Management"."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")  # it comes with the driver
        code = self._library.cuInit(0)
        if code not in (0, _NO_DEVICE):
            raise RuntimeError(f"cuInit failed with {code}")
        self._devices = [] if code else self._listed()

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise RuntimeError(f"{name} failed with {code}")

    def _listed(self) -> list[ctypes.c_int]:
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        devices = [ctypes.c_int() for _ in range(count.value)]
        for number, device in enumerate(devices):
            self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(number))
        return devices

    def uuids(self) -> list[str]:
        """Return the UUIDs without what comes before the first dash: NVML says GPU- or MIG-."""
        found = []
        for device in self._devices:
            octets = (ctypes.c_ubyte * 16)()
            # The second version gives an instance of MIG its own UUID.
            self._call("cuDeviceGetUuid_v2", ctypes.byref(octets), device)
            found.append(str(uuid.UUID(bytes=bytes(octets))))
        return found

    def allocate(self, size: int) -> None:
        """Take bytes of the first device, until the process ends."""
        context, block = ctypes.c_void_p(), ctypes.c_uint64()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._devices[0])
        self._call("cuCtxSetCurrent", context)
        self._call("cuMemAlloc_v2", ctypes.byref(block), ctypes.c_size_t(size))

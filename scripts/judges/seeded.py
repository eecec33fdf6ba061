"""Numbers that look random and are the same everywhere: what the judges feed to one-node models."""

import numpy as np

F32, U8 = np.float32, np.uint8


class Numbers:
    """Numbers that look random and are the same everywhere."""

    def __init__(self, name):
        self.state = sum((i + 1) * ord(c) for i, c in enumerate(name)) & 0xFFFFFFFF

    def words(self, count):
        out = []
        for _ in range(count):
            self.state = (self.state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
            out.append(self.state >> 33)
        return np.array(out, dtype=np.int64)

    def floats(self, *shape, scale=1.0, dtype=F32):
        x = self.words(int(np.prod(shape))) % 4001 / 2000.0 - 1.0
        return (x * scale).astype(dtype).reshape(shape)

    def ints(self, *shape, low=0, high=255, dtype=U8):
        x = self.words(int(np.prod(shape))) % (high - low + 1) + low
        return x.astype(dtype).reshape(shape)



"""The clocks of this process, as parts are handed them."""

import time


class SystemClock:
    """This process's clocks."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

"""`python -m meshproxy.runtime` is one worker; only a supervisor starts it, with a descriptor to lead it by."""

from __future__ import annotations

import os
import signal
import socket
import sys

from meshproxy.errors import FaultyInput, StartError
from meshproxy.runtime.life import LED_SIGNALS
from meshproxy.runtime.process import LogLook, run_worker
from meshproxy.runtime.worker import Place


def main() -> None:
    """Read the command line (see `life`), and run; exits 0 when nothing was cut, else 1."""
    descriptor, turn, look, place, file = sys.argv[1:]
    for each in LED_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LED_SIGNALS)
    control = socket.socket(fileno=int(descriptor))
    for inherited in (control.fileno(), int(turn)):
        os.set_inheritable(inherited, False)
    try:
        nothing_cut = run_worker(file, Place.parse(place), control, LogLook.parse(look), int(turn))
    except (FaultyInput, StartError) as error:
        sys.exit(f"meshproxy: worker {place}: {error}")
    except Exception:  # noqa: BLE001 - it is in the log
        sys.exit(1)
    sys.exit(0 if nothing_cut else 1)


if __name__ == "__main__":
    main()

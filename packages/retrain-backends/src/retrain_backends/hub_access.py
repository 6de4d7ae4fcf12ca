"""Whether the Hugging Face hub can be reached."""

import os
import ssl
import sys
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

_TIMEOUT_S = 5


def prefer_cache_if_unreachable() -> None:
    """Switch the client of the hub to its offline mode if the hub does not answer.

    Otherwise the client retries for most of a minute before it looks into its cache. It reads the
    mode when it is imported, so this has to be called before.
    """
    if "huggingface_hub" in sys.modules or "HF_HUB_OFFLINE" in os.environ:
        return
    answers: SimpleQueue[bool] = SimpleQueue()
    # In a thread of its own, because nothing limits the time of a name look-up.
    Thread(target=lambda: answers.put(_answers()), daemon=True).start()
    try:
        reachable = answers.get(timeout=_TIMEOUT_S)
    except Empty:
        reachable = False
    if not reachable:
        os.environ["HF_HUB_OFFLINE"] = "1"


def _answers() -> bool:
    """Whether the hub answers a request, with any status; a wrong certificate is an answer."""
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        with urlopen(Request(address, method="HEAD"), timeout=_TIMEOUT_S):
            return True
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except OSError:  # a time-out
        return False
    except ValueError:  # a wrong address, which the client reports
        return True

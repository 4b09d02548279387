"""The nursery with little to import; it starts a thread where the environment says so."""

import os
import sys
import threading

from experts.inside_vllm import nursery

if __name__ == "__main__":
    nursery.IMPORTED = ("json",)
    print("imported", flush=True)
    if "START_A_THREAD" in os.environ:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    nursery.main(sys.argv[1:])

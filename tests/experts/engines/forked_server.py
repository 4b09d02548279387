"""A server that says where it runs and then waits, or ends with the code it is given."""

import json
import os
import subprocess
import sys
import tempfile
import time

if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(int(sys.argv[1]))
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    names = ("TMPDIR", "GIVEN", "OPENBLAS_NUM_THREADS", "VLLM_USE_V2_MODEL_RUNNER")
    variables = {name: os.environ.get(name) for name in names}
    where = {"cwd": os.getcwd(), "parent": os.getppid(), "temporary": tempfile.gettempdir()}
    print("ready", json.dumps(where | variables), flush=True)
    time.sleep(600)

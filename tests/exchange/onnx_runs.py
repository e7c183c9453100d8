"""Every method's features as ONNX: checked, and run by onnxruntime with batches of 1, 3 and 16, with the features of `cmaec features`."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import onnxruntime
import runs

BATCHES = (1, 3, 16)


def main() -> None:
    results = []
    with runs.folder() as folder:
        # Whatever the features are computed by: those of our own stages too.
        for run in runs.made(folder, sys.argv[1:] or list(runs.methods()[1])):
            path = folder / run.name / "features.onnx"
            run.export(path)
            onnx.checker.check_model(onnx.load(path), full_check=True)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            errors = []
            for batch in BATCHES:
                parts = [run.pictures[at : at + batch] for at in range(0, len(run.pictures), batch)]
                found = [session.run(None, {"pixel_values": part})[0] for part in parts]
                errors.append(run.error(np.concatenate(found)))
            shown = " ".join(f"{batch}:{error:.1e}" for batch, error in zip(BATCHES, errors))
            results.append(runs.line(run.name, max(errors), shown))
    runs.told(results)


if __name__ == "__main__":
    main()

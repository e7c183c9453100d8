#!/usr/bin/env python3
"""Rows for the table in docs/accelerators.md: what `cmaec compile` says of steps in bf16.

    python3 benches/steps_for_devices.py h100 h200 -- pipelines/*.cmae

A batch is 256, or the largest power of two below that fits. `CMAEC` names another binary than target/release/cmaec,
`CMAE_PJRT_PLUGIN` NVIDIA's plugin, `SETS` further words such as `--set train.residual=bf16`.
"""

import json
import os
import subprocess
import sys


def compiled(pipeline, device, batch):
    """The report of one step, or None, and what was said of it."""
    command = [os.environ.get("CMAEC", "target/release/cmaec"), "compile", pipeline, "--for", device]
    command += ["--precision", "bf16", "--json", "--set", f"data.batch_size={batch}"]
    if plugin := os.environ.get("CMAE_PJRT_PLUGIN"):
        command += ["--plugin", plugin]
    done = subprocess.run(command + os.environ.get("SETS", "").split(), capture_output=True, text=True)
    return json.loads(done.stdout) if done.stdout.strip() else None, done.stderr.strip()


def row(pipeline, device):
    batch = 256
    while batch:
        report, said = compiled(pipeline, device, batch)
        if report is None:
            return f"| `{pipeline}` | {device} | {batch} | {said.splitlines()[-1] if said else 'nothing was said'} |"
        if report["fits"]:
            break
        batch //= 2
    return (
        f"| `{report['pipeline']}` | {device} | {report['batch_size']} | {report['memory_bytes'] / 1e9:.1f} GB"
        f" | {report['kernels']:,} | {report['bytes_moved'] / 1e9:.1f} GB | {report['modelled_ms']:.1f} ms"
        f" | {report['modelled_images_per_second']:,.0f} |"
    )


split = sys.argv.index("--")
print("| pipeline | device | batch | memory | kernels | moved | modelled step | modelled images/s |\n" + "|---" * 8 + "|")
for pipeline in sys.argv[split + 1 :]:
    for device in sys.argv[1:split]:
        print(row(pipeline, device), flush=True)

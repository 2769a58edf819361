#!/bin/sh
# Makes the weights of adain-16x: sh experiments/recipes/adain-16x.sh PHOTOGRAPHS PAINTINGS RUNS
#
# The folders are those of wct-16x.sh, whose weights the package must have; the weights are written as
# RUNS/adain-16x.npz. After an interruption the same command goes on.
set -eu
photographs=$1 paintings=$2 runs=$3

# Stage 4 alone, and beside it stage 1 of wct-16x.
cdjax distill --method adain --preset bundled --data.source "$photographs" --styles.source "$paintings" \
    --output "$runs/adain-bundled"
python - "$runs" <<'PYTHON'
import dataclasses
import sys
from pathlib import Path

import cdjax
from cdjax.checkpoints.combine import combine_models

runs = Path(sys.argv[1])
deep, wct = cdjax.load_model(runs / "adain-bundled/model"), cdjax.load_model("wct-16x")
specs = tuple(spec for spec in wct.config.specs if spec.stage == 1)
config = dataclasses.replace(wct.config, method="adain", specs=specs, strengths=())
shallow = cdjax.Model({"stage1": wct.params["stage1"]}, config)
cdjax.save_model(runs / "adain-begun", combine_models([deep, shallow]), overwrite=True)
PYTHON

# Both together, on the pictures that they make, from the model $1 into the folder $2.
together() {
    from=$1 to=$2
    shift 2
    cdjax distill --method adain --preset bundled --stages 4 1 --teacher vgg16 --start.model "$from" --output "$to" \
        --data.source "$photographs" --data.crop 192 --data.batch 2 --data.scales 0.8 1.6 \
        --styles.source "$paintings" --styles.scales 0.6 2.5 --styles.contents 0.1 --start.images 256 \
        --student-autoencoder.steps 0 --student-decoder.steps 0 --student-transfer.decay True \
        --student-transfer.whitened True --student-transfer.weights.pixel 10 --student-transfer.weights.sliced 10 \
        --student-transfer.weights.content 1.5 --save-every 100 "$@"
}
together "$runs/adain-begun" "$runs/adain" --student-transfer.steps 1500 --student-transfer.learning-rate .0015 \
    --student-transfer.weights.style 2
together "$runs/adain/model" "$runs/adain-ot" --transforms adain ot --student-transfer.steps 400 --data.seed 21 \
    --student-transfer.learning-rate .0008 --student-transfer.weights.style 3

python - "$runs" <<'PYTHON'
import sys
from pathlib import Path

import cdjax
from cdjax.checkpoints.pretrained import write_bundled

runs = Path(sys.argv[1])
write_bundled(runs / "adain-16x.npz", cdjax.load_model(runs / "adain-ot/model"))
PYTHON

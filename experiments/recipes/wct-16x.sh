#!/bin/sh
# Makes the weights of wct-16x: sh experiments/recipes/wct-16x.sh PHOTOGRAPHS PAINTINGS RUNS
#
# PHOTOGRAPHS and PAINTINGS are folders without the pictures that are kept for evaluation: every 36th
# photograph in the order of the names, and La Muse, Mosaic, Scene de rue, The Starry Night, The
# Scream and Woman with a Hat. Everything is written below the folder RUNS, the weights as
# RUNS/wct-16x.npz. After an interruption the same command goes on.
set -eu
photographs=$1 paintings=$2 runs=$3

# The stages, each alone. Stages 5 and 2 have weights of their own.
alone() { cdjax distill --preset bundled --data.source "$photographs" --output "$runs/bundled" "$@"; }
alone --stages 5 --student-autoencoder.steps 6000 --student-autoencoder.weights.pixel 600
alone --stages 2 --student-autoencoder.steps 2000 --student-autoencoder.weights.pixel 40
alone

# Stage 4 once more and stage 5 four times more, from the model $1, into the folder $2, on larger crops.
again() {
    mkdir -p "$2"
    [ -d "$2/teacher" ] || cp -r "$runs/bundled/teacher" "$2"
    from=$1 to=$2
    shift 2
    cdjax distill --preset bundled --data.source "$photographs" --start.model "$from" --output "$to" \
        --start.images 600 --start.crop 176 --data.crop 192 --data.batch 2 --student-decoder.steps 1500 \
        --student-autoencoder.first-layer-lr-scale .1 "$@"
}
again "$runs/bundled/model" "$runs/final" --stages 4 --data.seed 1 --student-autoencoder.steps 4000 \
    --student-autoencoder.learning-rate .004 --student-autoencoder.weights.pixel 130
again "$runs/bundled/model" "$runs/once" --stages 5 --data.seed 2 --student-autoencoder.steps 6000 \
    --student-autoencoder.learning-rate .004 --student-autoencoder.weights.pixel 300
again "$runs/once/model" "$runs/twice" --stages 5 --data.seed 5 --student-autoencoder.steps 6000 \
    --student-autoencoder.learning-rate .003 --student-autoencoder.weights.pixel 200 \
    --student-autoencoder.weights.shallow-tap-weight .2
again "$runs/twice/model" "$runs/thrice" --stages 5 --data.seed 6 --student-autoencoder.steps 4200 \
    --student-autoencoder.learning-rate .003 --student-autoencoder.weights.pixel 200 \
    --student-autoencoder.weights.shallow-tap-weight .1
again "$runs/thrice/model" "$runs/final" --stages 5 --data.seed 7 --student-autoencoder.steps 7000 \
    --student-autoencoder.learning-rate .003 --student-autoencoder.weights.pixel 200 \
    --student-autoencoder.weights.shallow-tap-weight .25
alone --output "$runs/final" --start.model "$runs/bundled/model" \
    --student-autoencoder.steps 0 --student-decoder.steps 0

# All stages together, on the pictures that they make, from the model $1 into the folder $2.
together() {
    from=$1 to=$2
    shift 2
    cdjax distill --preset bundled --teacher "$runs/final/teacher" --start.model "$from" --output "$to" \
        --data.source "$photographs" --data.crop 192 --data.batch 2 --data.scales 0.8 1.6 \
        --styles.source "$paintings" --start.images 256 \
        --student-autoencoder.steps 0 --student-decoder.steps 0 --student-transfer.decay True \
        --student-transfer.whitened True --student-transfer.weights.pixel 100 "$@"
}
few="--styles.scales 0.8 2.5 --styles.contents 0.15"
many="--styles.scales 0.6 2.5 --styles.contents 0.3 --styles.colors True"
# For the weights of the package this run was stopped after 250 of its steps.
together "$runs/final/model" "$runs/first" $few --student-transfer.steps 600 \
    --student-transfer.learning-rate .0003 --student-transfer.weights.style 1 --student-transfer.weights.content 3
together "$runs/first/model" "$runs/second" $few --student-transfer.steps 600 \
    --student-transfer.learning-rate .0004 --student-transfer.weights.style 1 --student-transfer.weights.content 8 \
    --student-transfer.weights.sliced 4
together "$runs/second/model" "$runs/third" $few --student-transfer.steps 500 --strengths .5 .5 .7 1 1 \
    --student-transfer.learning-rate .0003 --student-transfer.weights.style 1 --student-transfer.weights.content 8 \
    --student-transfer.weights.sliced 10
together "$runs/third/model" "$runs/fourth" $many --student-transfer.steps 500 \
    --student-transfer.learning-rate .0003 --student-transfer.weights.style 1 --student-transfer.weights.content 20 \
    --student-transfer.weights.sliced 10
together "$runs/fourth/model" "$runs/fifth" $many --student-transfer.steps 900 --data.seed 11 \
    --student-transfer.learning-rate .0003 --student-transfer.weights.style 1 --student-transfer.weights.content 20 \
    --student-transfer.weights.sliced 10
together "$runs/fifth/model" "$runs/sixth" $many --student-transfer.steps 1200 --data.seed 31 \
    --student-transfer.learning-rate .0003 --student-transfer.weights.style .8 --student-transfer.weights.content 20 \
    --student-transfer.weights.sliced 16

python - "$runs" <<'PYTHON'
import dataclasses
import sys
from pathlib import Path

import cdjax
from cdjax.checkpoints.pretrained import write_bundled

runs = Path(sys.argv[1])
model = cdjax.load_model(runs / "sixth/model")
# The deep stages keep more of the layout with optimal transport than with WCT.
config = dataclasses.replace(model.config, transforms=((5, "ot"), (4, "ot")))
write_bundled(runs / "wct-16x.npz", dataclasses.replace(model, config=config))
PYTHON

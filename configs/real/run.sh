#!/bin/sh
# The experiment on a pretrained transformer: configs/real/run.sh MODEL DATA [OUTPUT]
#
# MODEL is a multilingual encoder (its lower six layers are trained: they know languages and cannot search). DATA holds
# text/ supervised/ eval/ as data_recipes/nano.yaml says. A step that is done is skipped, and one that was interrupted
# resumes. Trained on two processes: MCONTRIEVER_TRAIN="deepspeed --num_gpus 2 mcontriever/train.py".
set -eu
model=${1:?a multilingual encoder}
REAL_DATA=$(realpath "${2:?the data folder}")
NANO_DATA=$REAL_DATA
export REAL_DATA NANO_DATA
out=${3:-runs/real}
mcontriever=${MCONTRIEVER:-mcontriever}
train=${MCONTRIEVER_TRAIN:-$mcontriever train}
mkdir -p "$out"

dev="evaluation.sets=[$out/dev/xquad-ar-en, $out/dev/xquad-en-en, $out/dev/tatoeba-sw-en]"
[ -d "$out/dev" ] || python configs/real/half_of_questions.py "$REAL_DATA"/eval/* --output "$out/dev"

[ -d "$out/base" ] || "$mcontriever" trim "$model" --text data_recipes/nano.yaml --pieces "${PIECES:-131072}" \
    --layers "${LAYERS:-0-5}" --output "$out/base"
"$mcontriever" prepare data_recipes/nano.yaml --output "$out/tokens" --tokenizer "$out/base"

$train --config configs/real/crops.yaml --set "encoder.name=$out/base" --set "data.tokens=$out/tokens" \
    --set "run.output=$out/crops" --set "$dev"
$train --config configs/real/questions.yaml --set "encoder.name=$out/crops/model" --set "run.output=$out/questions" \
    --set "$dev"
"$mcontriever" mine --config configs/real/mine.yaml --set "model=$out/questions/model" --set "output=$out/mined"
$train --config configs/real/questions.yaml --set "encoder.name=$out/crops/model" --set "run.output=$out/hard" \
    --set "data.examples={format: dpr, paths: [\"$out/mined/mined-*.jsonl\"]}" --set data.negatives=1 \
    --set data.hard_ratio=0.5 --set "$dev"

"$mcontriever" plot "$out/crops" "$out/questions" "$out/hard" --output "$out/curves.png"
"$mcontriever" benchmark --model "$out/base" "$out/crops/model" "$out/questions/model" "$out/hard/model" bm25 \
    --tasks "$out"/dev/* --output "$out/benchmark"

#!/bin/sh
# mcontriever-mini, the default model, from multilingual-e5-small: configs/mini/run.sh DATA MODEL [OUTPUT]
#
# DATA holds text/ parallel/ eval/ as data_recipes/mini.yaml says. MODEL is multilingual-e5-small: a folder or a hub name.
# The shipped mini was made of a copy whose weights stand in blocks of four bits already, so int4-blocks loses nothing;
# of the published float32 weights it rounds. Each step is a verb; a step that is done is skipped.
set -eu
MINI_DATA=$(realpath "${1:?the data folder}")
export MINI_DATA
model=${2:?multilingual-e5-small: a folder or a hub name}
out=${3:-runs/mini}
mcontriever=${MCONTRIEVER:-mcontriever}
mkdir -p "$out"

# English, in which most passages stand, weighs twice as much; languages with sentences alone weigh less.
[ -d "$out/trimmed" ] || "$mcontriever" trim "$model" --text data_recipes/mini.yaml --pieces 78000 \
    --weights en=2,fa=0.6,ha=0.6,km=0.6,ku=0.6,ms=0.6,my=0.6,ne=0.6,om=0.6,ps=0.6,so=0.6,ta=0.6,tl=0.6,ur=0.6 \
    --max-characters 1000000 --samples 20 --output "$out/trimmed"
[ -d "$out/mini" ] || "$mcontriever" export "$out/trimmed" --output "$out/mini" --weights int4-blocks
"$mcontriever" benchmark --model "$out/mini" "$model" nano bm25 --tasks "$MINI_DATA"/eval/* --output "$out/benchmark"

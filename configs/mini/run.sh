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

# English, in which most passages stand, weighs three times as much; languages with sentences alone weigh less.
[ -d "$out/trimmed" ] || "$mcontriever" trim "$model" --text data_recipes/mini.yaml --pieces 78000 \
    --weights en=3,fa=0.3,ha=0.3,km=0.3,ku=0.3,ms=0.3,my=0.3,ne=0.3,om=0.3,ps=0.3,so=0.3,ta=0.3,tl=0.3,ur=0.3 \
    --max-characters 1000000 --samples 20 --output "$out/trimmed"
[ -d "$out/mini" ] || "$mcontriever" export "$out/trimmed" --output "$out/mini" --weights int4-blocks
"$mcontriever" benchmark --model "$out/mini" "$model" nano bm25 --tasks "$MINI_DATA"/eval/* --output "$out/benchmark"

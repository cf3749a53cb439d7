#!/bin/sh
# mcontriever-nano from nothing, both variants: configs/nano/run.sh DATA [OUTPUT]
#
# DATA holds text/ parallel/ dictionaries/ supervised/ eval/ as data_recipes/nano.yaml says. Each step is one of the
# project's own verbs; a step that is done is passed over, and one that was interrupted goes on.
set -eu
NANO_DATA=$(realpath "${1:?the data folder}")
export NANO_DATA
out=${2:-runs/nano}
mcontriever=${MCONTRIEVER:-mcontriever}
mkdir -p "$out"

[ -d "$out/tokenizer" ] || "$mcontriever" tokenizer data_recipes/nano_vocabulary.yaml --output "$out/tokenizer" \
    --vocabulary 40000 --max-characters 30000000 --lowercase
"$mcontriever" prepare data_recipes/nano.yaml --output "$out/tokens" --tokenizer "$out/tokenizer"
for variant in unaligned aligned; do
    "$mcontriever" train --config "configs/nano/$variant.yaml" --set "run.output=$out/$variant" \
        --set "data.tokens=$out/tokens" --set "encoder.tokenizer=$out/tokenizer"
    "$mcontriever" export "$out/$variant" --output "$out/nano-$variant" --weights float8
done
"$mcontriever" plot "$out/unaligned" "$out/aligned" --output "$out/curves.png"
"$mcontriever" benchmark --model "$out/nano-unaligned" "$out/nano-aligned" bm25 "bm25:subwords=$out/tokenizer" \
    "hybrid:bm25,$out/nano-aligned" --tasks "$NANO_DATA"/eval/* --output "$out/benchmark"

#!/bin/sh
# mcontriever-nano from random weights, both variants: configs/nano/run.sh DATA [OUTPUT]
#
# DATA holds text/ parallel/ dictionaries/ supervised/ eval/ as data_recipes/nano.yaml says. Each step is one of the
# project's own verbs; a finished step is skipped, and an interrupted one resumes.
set -eu
NANO_DATA=$(realpath "${1:?the data folder}")
export NANO_DATA
out=${2:-runs/nano}
mcontriever=${MCONTRIEVER:-mcontriever}
mkdir -p "$out"

[ -d "$out/tokenizer" ] || "$mcontriever" tokenizer data_recipes/nano.yaml --output "$out/tokenizer" \
    --vocabulary 96000 --max-characters 40000000 --lowercase \
    --dictionaries "$NANO_DATA/dictionaries/en-{language}.tsv.gz"
"$mcontriever" prepare data_recipes/nano.yaml --output "$out/tokens" --tokenizer "$out/tokenizer"
for variant in unaligned aligned; do
    "$mcontriever" train --config "configs/nano/$variant.yaml" --set "run.output=$out/$variant" \
        --set "data.tokens=$out/tokens" --set "encoder.tokenizer=$out/tokenizer"
    "$mcontriever" export "$out/$variant" --output "$out/nano-$variant" --weights int2
    "$mcontriever" mine --config configs/nano/mine.yaml --set "model=$out/$variant/model" \
        --set "output=$out/$variant-mined"
    "$mcontriever" train --config configs/nano/finetune.yaml --set "encoder.name=$out/$variant/model" \
        --set "data.examples.paths=[$out/$variant-mined/mined-*.jsonl]" --set "run.output=$out/$variant-finetuned"
    "$mcontriever" export "$out/$variant-finetuned" --output "$out/nano-$variant-finetuned" --weights int2
done
"$mcontriever" plot "$out/unaligned" "$out/aligned" --output "$out/curves.png"
subwords="bm25:subwords=$out/nano-aligned"
"$mcontriever" benchmark --model "$out/nano-unaligned" "$out/nano-unaligned-finetuned" "$out/nano-aligned" \
    "$out/nano-aligned-finetuned" bm25 "$subwords" "blend:bm25,$subwords,$out/nano-aligned" \
    "blend:bm25,$subwords,$out/nano-aligned-finetuned" --tasks "$NANO_DATA"/eval/* --output "$out/benchmark"

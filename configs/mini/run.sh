#!/bin/sh
# mcontriever-mini, the default model, from multilingual-e5-small: configs/mini/run.sh DATA MODEL [OUTPUT]
#
# DATA holds text/ parallel/ supervised/ eval/ as data_recipes/mini.yaml says. MODEL is multilingual-e5-small: a folder or
# a hub name. Each step is a verb; a step that is done is skipped, and one that was interrupted resumes.
set -eu
MINI_DATA=$(realpath "${1:?the data folder}")
NANO_DATA=$MINI_DATA
export MINI_DATA NANO_DATA
model=${2:?multilingual-e5-small: a folder or a hub name}
out=${3:-runs/mini}
mcontriever=${MCONTRIEVER:-mcontriever}
mkdir -p "$out"

# Nine of twelve layers: removing 5, 6 and 7 costs least. English, the language of most passages, counts twice as
# much; languages with only sentences count less.
[ -d "$out/trimmed" ] || "$mcontriever" trim "$model" --text data_recipes/mini.yaml --pieces 90000 --layers 0-4,8-11 \
    --weights en=2,fa=0.6,ha=0.6,km=0.6,ku=0.6,ms=0.6,my=0.6,ne=0.6,om=0.6,ps=0.6,so=0.6,ta=0.6,tl=0.6,ur=0.6 \
    --max-characters 1000000 --samples 5 --output "$out/trimmed"

# The full model's vectors of 104,000 texts, and of equal contents in 43 languages.
[ -d "$out/texts" ] || python configs/mini/texts.py "$MINI_DATA" "$out/texts"
"$mcontriever" embed "$out/texts/short.jsonl" --model "$model" --queries --output "$out/teacher/short"
"$mcontriever" embed "$out/texts/passages.jsonl" --model "$model" --output "$out/teacher/passages"
"$mcontriever" embed "$out/texts/equal-short.jsonl" --model "$model" --queries --output "$out/teacher/equal-short"
"$mcontriever" embed "$out/texts/equal-passages.jsonl" --model "$model" --output "$out/teacher/equal-passages"

"$mcontriever" train --config configs/mini/distil.yaml --set "encoder.name=$out/trimmed" --set "run.output=$out/distil" \
    --set "data.texts.stores=[{store: $out/teacher/short, kind: queries}, {store: $out/teacher/passages}]" \
    --set "data.texts.neutral.stores=[$out/teacher/equal-short, $out/teacher/equal-passages]"
[ -d "$out/first" ] || "$mcontriever" export "$out/distil/model" --output "$out/first" --weights int4-blocks

# A better teacher. Raw text improves the full model across languages, and costs it a little within one; the mean of its
# weights before and after keeps most of both. The model above learns on from its vectors of a quarter of the texts.
"$mcontriever" prepare data_recipes/nano.yaml --output "$out/tokens" --tokenizer "$model"
"$mcontriever" train --config configs/real/crops.yaml --set "encoder.name=$model" --set "data.tokens=$out/tokens" \
    --set "run.output=$out/crops" --set run.steps=100 --set run.save_every=50 --set "evaluation.sets=[]"
[ -d "$out/better" ] || "$mcontriever" average "$out/crops/model" "$model" --output "$out/better"
[ -f "$out/texts/few-short.jsonl" ] || head -n 14000 "$out/texts/short.jsonl" > "$out/texts/few-short.jsonl"
[ -f "$out/texts/few-passages.jsonl" ] || head -n 12000 "$out/texts/passages.jsonl" > "$out/texts/few-passages.jsonl"
"$mcontriever" embed "$out/texts/few-short.jsonl" --model "$out/better" --queries --output "$out/again/short"
"$mcontriever" embed "$out/texts/few-passages.jsonl" --model "$out/better" --output "$out/again/passages"
"$mcontriever" embed "$out/texts/equal-short.jsonl" --model "$out/better" --queries --output "$out/again/equal-short"
"$mcontriever" embed "$out/texts/equal-passages.jsonl" --model "$out/better" --output "$out/again/equal-passages"

"$mcontriever" train --config configs/mini/distil.yaml --set "encoder.name=$out/first" --set "run.output=$out/again/run" \
    --set run.steps=200 --set "data.texts.stores=[{store: $out/again/short, kind: queries}, {store: $out/again/passages}]" \
    --set "data.texts.neutral.stores=[$out/again/equal-short, $out/again/equal-passages]"
[ -d "$out/second" ] || "$mcontriever" export "$out/again/run/model" --output "$out/second" --weights int4-blocks

# The mean of what it learned from both teachers finds more than either.
[ -d "$out/both" ] || "$mcontriever" average "$out/first" "$out/second" --output "$out/both"
[ -d "$out/mini" ] || "$mcontriever" export "$out/both" --output "$out/mini" --weights int4-blocks
"$mcontriever" benchmark --model "$out/mini" "$model" nano bm25 --tasks "$MINI_DATA"/eval/* --output "$out/benchmark"

#!/usr/bin/env bash
# Everything from a fresh machine to a trained and evaluated model: installs what is missing,
# builds, makes phantoms, trains both stages on them (under 4 minutes on two free cores), evaluates
# on held-out phantoms.
set -euo pipefail
cd "$(dirname "$0")"
echo "== installing what is missing, building the trainer (a few minutes the first time)"
scripts/build hybridmed_trainer
hybridmed=build/release/examples/hybridmed
run=runs/quickstart
rm -rf "$run"
mkdir -p "$run"
echo "== making phantoms: procedural pictures, not anatomy"
"$hybridmed" phantom --out "$run/phantoms" --count 3000
echo "== training both stages"
start=$SECONDS
"$hybridmed" pretrain --config configs/phantom.json --run "$run/model" --set data="$run/phantoms"
echo "trained in $((SECONDS - start)) s"
echo "== evaluating on phantoms that training never saw"
"$hybridmed" evaluate --run "$run/model" --data "$run/phantoms" \
  --prompts configs/phantom_prompts.json
# a held-out phantom with a nodule, and the sentence that describes it
IFS=, read -r image _ sentence _ < <(awk -F, '
  NR == FNR { test[$1 ".png"]; next }
  $1 in test && $2 == "nodule" { print; exit }
  ' "$run/phantoms/splits/test.txt" "$run/phantoms/boxes.csv")
"$hybridmed" attention --run "$run/model" --prompt "$sentence" --out "$run/model/words.png" \
  "$run/phantoms/images/$image"
echo
echo "loss curves     $run/model/curves.png"
echo "attention maps  $run/model/attention.png (findings with their boxes)," \
  "$run/model/words.png (word by word)"
